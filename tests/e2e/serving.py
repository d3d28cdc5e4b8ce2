"""What the scripts about `drr serve` share: the server under test, the upstream behind it (bench/serve_upstream.c), a tiny critic
trained in seconds, and HTTP by hand where a client's library would be too polite."""
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import tiny_bert  # noqa: E402
from checks import DRR, ROOT, write_questions  # noqa: E402

UPSTREAM = os.path.join(ROOT, "build", "release", "tests", "serve_upstream")
ANSWER = "It is asked and known: {nonce}.\nSo it can be said at once.\nAnswer: {nonce}\n"  # serve_upstream's, unless told
SETTINGS = ("DRR_", "OPENAI_", "HF_")  # what a user's environment would change


def environment(**more):
    return {**{name: value for name, value in os.environ.items() if not name.startswith(SETTINGS) or name == "DRR_CACHE"}, **more}


def missing():
    """Why nothing can be tested, or None."""
    for path, what in ((DRR, "run make build"), (UPSTREAM, "tools/setup build makes it")):
        if not os.access(path, os.X_OK):
            return f"there is no {path}: {what}"
    said = subprocess.run([DRR, "serve", "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(), text=True).stdout
    if "--upstream" not in said:
        return "this drr has no `serve --upstream`"
    return None


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Process:
    def __init__(self, command, log, **popen):
        self.log = log
        with open(log, "ab") as out:
            self.process = subprocess.Popen(command, stderr=out, **popen)
        self.pid = self.process.pid

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def alive(self):
        return self.process.poll() is None

    def stop(self, how=signal.SIGTERM, seconds=20):
        """The exit code; None where it had to be killed."""
        if self.alive():
            self.process.send_signal(how)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Upstream(Process):
    """serve_upstream: answers at once and right, or as its arguments say."""

    def __init__(self, log, *arguments):
        super().__init__([UPSTREAM, *arguments], log, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        line = self.process.stdout.readline().decode()
        if not line.strip().isdigit():
            raise RuntimeError(f"serve_upstream does not start: {self.said()}")
        self.port = int(line)
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def stats(self):
        return request(self.port, "GET", "/stats")[2]


class Served(Process):
    """`drr serve` with these arguments, once it says that it is healthy."""

    def __init__(self, log, *arguments, seconds=60, prefix=(), **more):
        self.port = free_port()
        super().__init__([*prefix, DRR, "serve", "--port", str(self.port), *arguments], log, stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, env=environment(**more))
        self.root, self.url = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.port}/v1"
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.alive():
            try:
                if request(self.port, "GET", "/health", seconds=5)[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(.05)
        self.stop()
        raise RuntimeError(f"drr serve does not start: {self.said()[-2000:]}")

    def metric(self, name, **labels):
        """The sum of a metric's samples that have these labels."""
        total, text = 0.0, request(self.port, "GET", "/metrics", parse=False)[2]
        for line in text.splitlines():
            if line.startswith((name + "{", name + " ")) and all(f'{key}="{value}"' in line for key, value in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def resident_mb(self):
        with open(f"/proc/{self.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:")) / 1024

    def open_files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def request(port, method, path, body=None, headers=(), seconds=60, parse=True):
    """(status, headers in lower case, body): JSON where it is JSON and parse is set. body: an object, text or bytes."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        link.request(method, path, body, {"Content-Type": "application/json", **dict(headers)} if body is not None else dict(headers))
        answer = link.getresponse()
        text = answer.read().decode(errors="replace")
        try:
            seen = json.loads(text) if parse else text
        except ValueError:
            seen = text
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, seen
    except http.client.HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    finally:
        link.close()


def chat(question, **more):
    return {"model": "drr", "messages": [{"role": "user", "content": question}], **more}


def is_error(seen, kind=None):
    """OpenAI's error object, with all four keys."""
    error = seen.get("error") if isinstance(seen, dict) else None
    return isinstance(error, dict) and {"message", "type", "param", "code"} <= set(error) and isinstance(error["message"], str) and \
        error["message"] != "" and kind in (None, error["type"])


def events(text):
    """The data of a body of server-sent events; comments are left out."""
    found = []
    for event in text.split("\n\n"):
        data = [line[5:].strip() for line in event.splitlines() if line.startswith("data:")]
        if data:
            found.append("\n".join(data))
    return found


def make_critic(folder, name="critic.gguf", trainer=DRR, **sizes):
    """A critic of random weights and one short training: its scores mean nothing, all else about it is real.
    trainer: another drr, where the one under test is a sanitizer's, which trains for minutes."""
    os.makedirs(folder, exist_ok=True)
    encoder, traces, critic = (os.path.join(folder, name + end) for end in (".encoder", ".traces.jsonl", ""))
    tiny_bert.make(encoder, **sizes)
    write_questions(traces, "60", "0", "--traces", "first")
    done = subprocess.run([trainer, "train", "--traces", traces, "--encoder", encoder, "--out", critic, "--epochs", "1", "--dev-share", ".2",
                           "--test-share", ".2"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment())
    if done.returncode:
        raise RuntimeError(f"the tiny critic could not be trained: {done.stdout[-2000:]}")
    return critic
