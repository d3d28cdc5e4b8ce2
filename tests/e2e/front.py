"""What the tests of the server as its operators meet it share: an upstream of a few lines, a server with its log read line by line,
and settings written to files."""
import atexit
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from checks import DRR

WORK = tempfile.mkdtemp(prefix="drr-e2e.")
atexit.register(shutil.rmtree, WORK, ignore_errors=True)
FIRST, SECOND = "first-client-key-1", "second-client-key-2"
UPSTREAM_KEY = "sk-upstream-key-0123456789"


class Upstream(BaseHTTPRequestHandler):
    """Answers every chat at once, or after the seconds that stand behind "slow:" in the question."""
    protocol_version = "HTTP/1.1"
    seen = []  # headers
    asked = []  # bodies

    def log_message(self, *_):
        pass

    def reply(self, value):
        body = json.dumps(value).encode()
        try:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the server has left

    def do_GET(self):
        self.reply({"object": "list", "data": [{"id": "fake", "object": "model"}]})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Upstream.seen.append(str(self.headers))
        Upstream.asked.append(request)
        text = str(request.get("messages"))
        if "busy" in text:
            self.send_response(503)
            self.send_header("Retry-After", "3600")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if "slow:" in text:
            time.sleep(float(text.split("slow:")[1].split()[0]))
        self.reply({"id": "x", "object": "chat.completion", "created": 1, "model": "fake",
                    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "It is 4."}}],
                    "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}})


upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
upstream.daemon_threads = True
threading.Thread(target=upstream.serve_forever, daemon=True).start()
URL = f"http://127.0.0.1:{upstream.server_address[1]}/v1"


def environment(**more):
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY") and name != "OPENAI_BASE_URL"}
    clean.update(more)
    return clean


class Server:
    def __init__(self, *words, tls=False, reasoner=None, command=DRR, **more):
        words = (["--reasoner", reasoner] if reasoner else ["--upstream", URL]) + list(words)
        if "--port" not in words:
            words = ["--port", "0"] + words
        self.tls, self.lines, self.context = tls, [], None
        self.process = subprocess.Popen([command, "serve", *words], cwd=WORK, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env=environment(**more))
        self.port = None
        self.is_ready = threading.Event()
        self.reader = threading.Thread(target=self.listen, daemon=True)
        self.reader.start()

    def listen(self):
        for line in self.process.stderr:
            self.lines.append(line)
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if said.get("event") == "ready":
                self.port = said["port"]
                self.is_ready.set()

    def ready(self, seconds=20):
        if not self.is_ready.wait(seconds):
            print("  # " + "".join(self.lines))
            raise SystemExit("not ok - the server does not start")
        return self

    def connect(self, seconds=20):
        if self.tls:
            return http.client.HTTPSConnection("localhost", self.port, timeout=seconds, context=self.context)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)

    def ask(self, method, path, body=None, key=None, headers=None, seconds=20):
        """status, headers, parsed or raw body"""
        sent = dict(headers or {})
        if key:
            sent["Authorization"] = "Bearer " + key
        connection = self.connect(seconds)
        try:
            connection.request(method, path, json.dumps(body) if isinstance(body, (dict, list)) else body, sent)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, answer.headers, json.loads(text)
        except ValueError:
            return answer.status, answer.headers, text

    def chat(self, text="What is 2 + 2?", **how):
        return self.ask("POST", "/v1/chat/completions", {"model": "fake", "messages": [{"role": "user", "content": text}]}, **how)

    def said(self, event, seconds=5, since=0):
        """The first such event's line, or None."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for line in self.lines[since:]:
                if f'"event":"{event}"' in line:
                    return line
            time.sleep(0.02)
        return None

    def stop(self, number=signal.SIGTERM, seconds=20):
        self.process.send_signal(number)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = "hangs"
        self.reader.join(5)
        return code


def refused(*words, **more):
    done = subprocess.run([DRR, "serve", *words], cwd=WORK, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=20, env=environment(**more))
    return done.returncode, done.stderr


def write(name, text, mode=0o600):
    path = os.path.join(WORK, name)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)
    return path


def answered(server, **how):
    status, _, body = server.chat(**how)
    return status == 200 and body["choices"][0]["message"]["content"] == "It is 4."
