#!/usr/bin/env python3
"""drr serve as its operators and its abusers meet it: keys, TLS, settings from three places, SIGHUP and SIGTERM, logs; and slow,
giant, broken and too many requests, during each of which others are still served."""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from checks import DRR, ROOT, check, failures  # noqa: E402
from serving import make_critic  # noqa: E402

WORK = tempfile.mkdtemp(prefix="drr-e2e.")
FIRST, SECOND = "first-client-key-1", "second-client-key-2"
UPSTREAM_KEY = "sk-upstream-key-0123456789"


class Upstream(BaseHTTPRequestHandler):
    """Answers every chat at once, or after the seconds that stand behind "slow:" in the question."""
    protocol_version = "HTTP/1.1"
    seen = []  # headers

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
        text = str(request.get("messages"))
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
    def __init__(self, *words, tls=False, reasoner=None, **more):
        words = (["--reasoner", reasoner] if reasoner else ["--upstream", URL]) + list(words)
        if "--port" not in words:
            words = ["--port", "0"] + words
        self.tls, self.lines, self.context = tls, [], None
        self.process = subprocess.Popen([DRR, "serve", *words], cwd=WORK, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
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


def it_answers_and_tells():
    server = Server("--samples", "2").ready()
    status, headers, body = server.ask("GET", "/health")
    check("health is ok", (status, body) == (200, {"status": "ok"}), status, body)
    check("liveness is another matter", server.ask("GET", "/health/live")[0] == 200)
    status, headers, body = server.chat("a secret question 7351", headers={"x-request-id": "mine-42"})
    check("a chat is answered and judged", status == 200 and body.get("drr", {}).get("verdict") == "accept", status, body)
    check("it says that agreement judges and how to have a critic", "drr train" in str(body.get("drr")), body)
    check("the client's request id comes back", headers["x-drr-request-id"] == "mine-42", headers)
    check("metrics are not there unasked", server.ask("GET", "/metrics")[0] == 404)
    status, headers, _ = server.ask("HEAD", "/health")
    check("HEAD is as GET", status == 200)
    status, headers, _ = server.ask("PUT", "/v1/chat/completions", "{}")
    check("a wrong method is told the right one", status == 405 and "POST" in headers["Allow"], status, headers)
    check("errors have four keys", set(server.ask("GET", "/nowhere")[2]["error"]) == {"message", "type", "param", "code"})
    line = server.said("answer")
    log = "".join(server.lines)
    check("the log has the verdict, in JSON", line and json.loads(line)["verdict"] == "accept", log)
    check("and not what was asked or answered", "7351" not in log and "It is 4" not in log, log)
    check("SIGTERM ends it with 0", server.stop() == 0, "".join(server.lines))
    server = Server("--log-prompts", "--metrics", "--log-file", "log.jsonl")
    until = time.monotonic() + 20
    while time.monotonic() < until and "listening on" not in "".join(server.lines):
        time.sleep(0.02)
    check("beside --log-file stderr has sentences", "listening on http://127.0.0.1:" in "".join(server.lines), "".join(server.lines))
    server.port = int("".join(server.lines).split("http://127.0.0.1:")[1].split()[0])
    server.chat("a secret question 7351")
    check("metrics are there when asked for", b"drr_requests_total" in server.ask("GET", "/metrics")[2])
    server.stop()
    with open(os.path.join(WORK, "log.jsonl")) as file:
        log = file.read()
    check("--log-prompts logs them, into --log-file", "7351" in log and "It is 4" in log, log)
    check("and nobody else may read that", not os.stat(os.path.join(WORK, "log.jsonl")).st_mode & (stat.S_IRWXG | stat.S_IRWXO))


def keys_open_it():
    code, words = refused("--upstream", URL, "--host", "0.0.0.0", "--port", "0")
    check("an address for others is refused without a key", code == 1 and "API key" in words, code, words)
    loose = write("loose.keys", FIRST + "\n", 0o644)
    code, words = refused("--upstream", URL, "--port", "0", "--api-key-file", loose)
    check("a key file that others can read is refused", code == 1 and "chmod 600" in words, code, words)
    keys = write("client.keys", f"# clients\n{SECOND}\n\n")
    server = Server("--host", "0.0.0.0", "--api-key", FIRST, "--api-key-file", keys, "--max-in-flight", "1",
                    DRR_UPSTREAM_API_KEY=UPSTREAM_KEY).ready()
    with open(f"/proc/{server.process.pid}/cmdline") as file:
        shown = file.read()
    check("a key on the command line is not seen in the list of processes", FIRST not in shown and "***" in shown, shown)
    status, headers, body = server.chat()
    check("without a key: 401", (status, body["error"]["type"]) == (401, "authentication_error"), status, body)
    check("a wrong key: 401", server.chat(key=FIRST + "x")[0] == 401)
    Upstream.seen.clear()
    check("each key opens", answered(server, key=FIRST) and answered(server, key=SECOND))
    check("x-api-key opens too", answered(server, headers={"x-api-key": FIRST}))
    check("health needs none", server.ask("GET", "/health")[0] == 200)
    check("properties do", server.ask("GET", "/props")[0] == 401)
    sent = "".join(Upstream.seen)
    check("the upstream sees its own key and no client's", UPSTREAM_KEY in sent and FIRST not in sent and SECOND not in sent, sent)
    slow = threading.Thread(target=server.chat, args=("slow:1.5 question",), kwargs={"key": FIRST})
    slow.start()
    time.sleep(0.5)
    status, headers, body = server.chat(key=FIRST)
    check("more at once than a key may: 429 with Retry-After", status == 429 and headers["Retry-After"], status, body)
    check("another key is served meanwhile", answered(server, key=SECOND))
    slow.join()
    props = server.ask("GET", "/props", key=FIRST)[2]
    server.stop()
    log = "".join(server.lines) + str(props)
    check("no key is in any log or reply", not any(key in log for key in (FIRST, SECOND, UPSTREAM_KEY)), log)


    server = Server(DRR_API_KEY=f"{FIRST},{SECOND}").ready()
    check("DRR_API_KEY holds several, with commas", server.chat()[0] == 401 and answered(server, key=FIRST) and answered(server, key=SECOND))
    texts = server.ask("GET", "/drr/traces", key=FIRST)[2]
    check("with several keys the page has numbers alone", "It is 4" not in str(texts), texts)
    server.stop()


def pages_of_others_cannot_ask():
    server = Server().ready()
    check("a page of another origin: 403", server.chat(headers={"Origin": "http://evil.example"})[0] == 403)
    check("a name made to mean this machine: 403", server.chat(headers={"Host": "evil.example"})[0] == 403)
    check("our own page may", answered(server, headers={"Origin": f"http://127.0.0.1:{server.port}"}))
    server.stop()


def settings_come_from_three_places():
    config = write("drr.toml", 'max-turns = 7\nsamples = 3\nshare = "50%"\nshadow = true\nredact = ["a", "b"]\n')
    server = Server("--config", config, "--max-turns", "9", DRR_SAMPLES="4", DRR_DEADLINE_MS="5000", DRR_MAX_TURNS="8").ready()
    policy = server.ask("GET", "/props")[2]["policy"]
    check("the command line goes first", policy["max_turns"] == 9, policy)
    check("then the file", policy["samples"] == 3 and policy["share"] == 0.5 and policy["shadow"] is True, policy)
    check("then the environment", policy["deadline_ms"] == 5000, policy)
    server.stop()
    for name, text, wanted in (("unknown.toml", "samples = 3\nmax-trns = 7\n", "unknown.toml:2"),
                               ("wrong.toml", 'samples = "many"\n', "wrong.toml:1"), ("broken.toml", "samples = \n", "broken.toml:1")):
        code, words = refused("--upstream", URL, "--config", write(name, text))
        check(f"{name}: refused by file and line", code in (1, 2) and wanted in words, code, words)
    code, words = refused("--upstream", URL, DRR_PORT="http")
    check("a wrong variable is refused by its name", code == 2 and "DRR_PORT" in words, code, words)
    code, words = refused()
    check("no model to answer: it says what is needed", code == 2 and "--upstream" in words and "--reasoner" in words, words)
    code, words = refused("--upstream", URL, "--reasoner", "smollm2-135m")
    check("two models to answer: it says to choose", code == 1 and "choose one" in words, code, words)
    code, words = refused("--upstream", URL, "--share", "120%")
    check("a share above all is refused", code == 2 and "share" in words, words)
    code, words = refused("--upstream", URL, "--critic", "nowhere.gguf", "--port", "0")
    check("a critic that is not there is named", code == 1 and "nowhere.gguf" in words, words)


def tls_keeps_it_private():
    if not shutil.which("openssl"):
        print("ok - TLS # skip: openssl is not there")
        return
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"],
                   cwd=WORK, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = Server("--tls-cert", "cert.pem", "--tls-key", "key.pem", "--header-timeout", "1", tls=True).ready()
    server.context = ssl.create_default_context(cafile=os.path.join(WORK, "cert.pem"))
    check("a chat over TLS is answered", answered(server))
    with socket.create_connection(("127.0.0.1", server.port), 10) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        check("plain text is not", b"200 OK" not in plain.recv(100))
    with socket.create_connection(("127.0.0.1", server.port), 10) as idle:
        started = time.monotonic()
        idle.recv(1)
        check("a handshake that does not come is cut", time.monotonic() - started < 5)
    check("others are served", answered(server))
    server.stop()
    code, words = refused("--upstream", URL, "--port", "0", "--tls-cert", "cert.pem", "--tls-key", "cert.pem")
    check("a key that is none is refused", code == 1 and "cert.pem" in words, code, words)
    code, words = refused("--upstream", URL, "--port", "0", "--tls-cert", "cert.pem")
    check("a certificate alone is refused", code == 1 and "two files" in words, code, words)


def abusers_are_cut():
    server = Server("--header-timeout", "1", "--body-timeout", "1", "--max-body", "100000", "--max-connections", "300").ready()

    def raw(text, seconds=10):
        with socket.create_connection(("127.0.0.1", server.port), seconds) as s:
            try:
                s.sendall(text if isinstance(text, bytes) else text.encode())
                seen = b""
                while piece := s.recv(65536):
                    seen += piece
            except OSError:
                pass
            return seen

    def others(what):
        started = time.monotonic()
        good = answered(server)
        check(f"others are served during {what}", good and time.monotonic() - started < 3, time.monotonic() - started)

    slow = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(100)]
    for s in slow:
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nx: ")
    others("100 slow headers")
    until = time.monotonic() + 5
    told = 0
    for s in slow:
        s.settimeout(max(0.1, until - time.monotonic()))
        try:
            told += b" 408 " in s.recv(1000)
        except OSError:
            pass
        s.close()
    check("slow headers are told 408 and cut", told == 100, told)
    body = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"
    check("so is a slow body", b" 408 " in raw(body))
    status, _, body = server.ask("POST", "/v1/chat/completions", b"x" * 200000)
    check("a giant body is 413", status == 413, status, body)
    check("so is one in chunks", b" 413 " in raw(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
                                                 b"\r\n" + b"4000\r\n" + b"x" * 0x4000 + b"\r\n" + (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 7))
    others("giant bodies")
    for name, text in (("no JSON", b"hello"), ("invalid UTF-8", b'{"messages":[{"role":"user","content":"\xff\xfe"}]}'),
                       ("deep JSON", b'{"messages":' + b"[" * 40000 + b"]" * 40000 + b"}"), ("an empty body", b""),
                       ("a list", b"[]"), ("messages that are none", b'{"messages":"hello"}')):
        status, _, body = server.ask("POST", "/v1/chat/completions", text)
        check(f"{name} is 400 with a reason", status == 400 and body["error"]["type"] == "invalid_request_error", status, body)
    seen = raw("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n\x00\x01 junk\r\n\r\n")
    check("junk behind a request is cut, the request answered", seen.startswith(b"HTTP/1.1 200") and seen.count(b"HTTP/1.1 200") == 1, seen)
    check("a huge header is 431", b" 431 " in raw("GET /health HTTP/1.1\r\nHost: localhost\r\nx: " + "y" * 200000 + "\r\n\r\n"))
    many = []
    for i in range(1500):
        try:
            many.append(socket.create_connection(("127.0.0.1", server.port), 2))
        except OSError:
            break
        if i % 500 == 499:
            others(f"{i + 1} connections")
    for s in many:
        s.close()
    with open(f"/proc/{server.process.pid}/status") as file:
        threads = [line for line in file if line.startswith("Threads:")][0]
    check("and no thread is one connection's", int(threads.split()[1]) < 64, threads)
    check("it ends in order after all that", server.stop() == 0, "".join(server.lines[-5:]))


def hangup_changes_it_while_it_runs():
    config = write("live.toml", "max-turns = 2\nsamples = 1\n")
    keys = write("live.keys", FIRST + "\n")
    server = Server("--config", config, "--api-key-file", keys).ready()
    got = []
    slow = threading.Thread(target=lambda: got.append(server.chat("slow:1.5 question", key=FIRST)[0]))
    slow.start()
    time.sleep(0.4)
    write("live.toml", "max-turns = 5\nsamples = 1\n")
    write("live.keys", SECOND + "\n")
    server.process.send_signal(signal.SIGHUP)
    check("SIGHUP is told of", server.said("reloaded"), "".join(server.lines))
    policy = server.ask("GET", "/props", key=SECOND)[2]["policy"]
    check("the policy is the new one", policy["max_turns"] == 5, policy)
    check("so are the keys", server.chat(key=FIRST)[0] == 401)
    slow.join()
    check("what was under way is answered", got == [200], got)
    since = len(server.lines)
    write("live.toml", "max-turns = lots\n")
    server.process.send_signal(signal.SIGHUP)
    until = time.monotonic() + 5
    while time.monotonic() < until and "not reloaded" not in "".join(server.lines[since:]):
        time.sleep(0.02)
    check("a broken file changes nothing, and the log says so", "not reloaded" in "".join(server.lines[since:]) and
          server.ask("GET", "/props", key=SECOND)[2]["policy"]["max_turns"] == 5, "".join(server.lines[since:]))
    server.stop()


def another_critic_takes_over_under_load():
    sizes = {"layers": 1, "width": 16, "heads": 2, "positions": 32}
    first, second = (make_critic(os.path.join(WORK, name), ff=ff, **sizes) for name, ff in (("one", 16), ("two", 24)))
    live = os.path.join(WORK, "live.gguf")
    shutil.copy(first, live)
    server = Server("--critic", live, "--max-turns", "2", "--threshold", "0").ready()
    seen, ends = [], threading.Event()

    def ask_on():
        while not ends.is_set():
            try:
                status, _, body = server.chat()
                seen.append((status, body.get("drr", {}).get("dm"), {turn["verdict"] for turn in body["drr"]["turns"]}))
            except (OSError, KeyError, http.client.HTTPException) as error:
                seen.append(("broken", str(error), set()))

    clients = [threading.Thread(target=ask_on) for _ in range(8)]
    for client in clients:
        client.start()
    names = [server.ask("GET", "/props")[2]["critic"]["dm"]]
    for path in (second, first, second):
        shutil.copy(path, live + ".new")
        os.rename(live + ".new", live)
        since = len(server.lines)
        server.process.send_signal(signal.SIGHUP)
        check("another critic is taken on SIGHUP", server.said("reloaded", 10, since), "".join(server.lines[-5:]))
        names.append(server.ask("GET", "/props")[2]["critic"]["dm"])
        time.sleep(0.3)
    with open(live + ".new", "wb") as file:
        file.write(b"no critic")
    os.rename(live + ".new", live)
    server.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    ends.set()
    for client in clients:
        client.join()
    check("/props names the one that judges", len(set(names)) == 2 and names[0] == names[2] and names[1] == names[3], names)
    check("every request during all that is answered and judged", len(seen) > 20 and all(row[0] == 200 for row in seen),
          len(seen), [row for row in seen if row[0] != 200][:3])
    check("by one of them", {row[1] for row in seen} == set(names), {row[1] for row in seen}, names)
    check("a file that is no critic changes nothing", server.ask("GET", "/props")[2]["critic"]["dm"] == names[3] and answered(server))
    server.stop()


def termination_waits_for_what_is_under_way():
    server = Server("--samples", "1").ready()
    got = []
    slow = threading.Thread(target=lambda: got.append(server.chat("slow:1.5 question")[0]))
    slow.start()
    time.sleep(0.4)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.4)
    try:
        server.ask("GET", "/health", seconds=2)
        check("nothing new is taken while it ends", False)
    except OSError:
        check("nothing new is taken while it ends", True)
    slow.join()
    check("what was under way is answered", got == [200], got)
    check("then it ends with 0", server.process.wait(10) == 0)
    server = Server("--samples", "1").ready()
    stuck = threading.Thread(target=lambda: got.append(hung(server)))
    stuck.start()
    time.sleep(0.4)
    started = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    check("a second signal ends it at once", server.stop() == 130 and time.monotonic() - started < 3)
    stuck.join()
    server = Server("--samples", "1", "--drain-timeout", "1").ready()
    stuck = threading.Thread(target=lambda: got.append(hung(server)))
    stuck.start()
    time.sleep(0.4)
    started = time.monotonic()
    check("--drain-timeout is how long it waits", server.stop() == 0 and 0.8 < time.monotonic() - started < 5, time.monotonic() - started)
    stuck.join()


def hung(server):
    try:
        return server.chat("slow:8 question")[0]
    except (OSError, http.client.HTTPException):
        return "cut"


def it_says_that_it_loads():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server("--port", str(port), reasoner="smollm2-135m", DRR_OFFLINE="1")
    server.port = port
    seen = set()
    while not server.is_ready.is_set() and server.process.poll() is None:
        try:
            status, _, body = server.ask("GET", "/health", seconds=2)
            seen.add((status, str(body)))
        except OSError:
            time.sleep(0.002)
    if server.process.poll() is not None:
        print("ok - loading # skip: the model is not in the cache")
        return
    check("while the model loads, health is 503 in llama.cpp's words",
          any(status == 503 and "Loading model" in body and "unavailable_error" in body for status, body in seen), seen)
    status, _, body = server.ask("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8,
                                                                  "drr": {"samples": 1}}, seconds=60)
    check("an embedded model answers", status == 200 and body["usage"]["completion_tokens"] > 0, status, body)
    server.stop()


def the_manual_has_every_option():
    words = subprocess.run([DRR, "serve", "--help"], stdout=subprocess.PIPE, text=True).stdout
    with open(os.path.join(ROOT, "packaging", "drr-serve.1")) as file:
        manual = file.read().split(".SH OPTIONS")[1].split(".SH SIGNALS")[0].replace("\\-", "-")
    offered = set(re.findall(r"^  --(\S+)", words, re.M))
    described = set(re.findall(r"^\.B --(\S+)", manual, re.M))
    check("the manual's options are those of --help", offered == described, offered ^ described)
    if shutil.which("man"):
        told = subprocess.run(["man", "--warnings", "-l", os.path.join(ROOT, "packaging", "drr-serve.1")], stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True).stderr
        check("and it is a manual", not told, told)


def main():
    try:
        the_manual_has_every_option()
        it_answers_and_tells()
        keys_open_it()
        pages_of_others_cannot_ask()
        settings_come_from_three_places()
        tls_keeps_it_private()
        abusers_are_cut()
        hangup_changes_it_while_it_runs()
        another_critic_takes_over_under_load()
        termination_waits_for_what_is_under_way()
        it_says_that_it_loads()
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    sys.exit(1 if failures() else 0)


main()
