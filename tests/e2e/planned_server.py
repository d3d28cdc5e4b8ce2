"""The upstream that test_serve_chat.py asks: fault_server.py's, which also answers by plan, streamed or whole, and notices
when whoever asked has gone."""
import json
import re
import socket
import time

import fault_server

GOOD = "I know this well, thinking of number 7.\nAnswer: yes"
BAD = "I am not sure but would guess, thinking of number 7.\nAnswer: no"
CUT = "Let me count them one by one:\n1. an apple\n2. a pear\n3. a"
USAGE = {"prompt_tokens": 50, "completion_tokens": 9, "total_tokens": 59}


class Handler(fault_server.Handler):
    """A question that holds plan:LETTERS is answered by its letters in turn, g or b; c is cut before its answer, t calls a
    tool; with slow:SECONDS after a wait; with "refused" not at all."""

    def setup(self):
        super().setup()
        self.server.open.add(self.connection)

    def finish(self):
        self.server.open.discard(self.connection)
        super().finish()

    def do_POST(self):
        if self.path.endswith("/chat/completions"):
            self.server.seen.append((dict(self.headers), self.path))
            return super().do_POST()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.passed.append((self.path, body, dict(self.headers)))
        self.reply(200, {"object": "list", "echo": body.decode()}, headers=[("X-Upstream", "yes")])

    def answer(self, body, question, words=None, finish="stop", kind="text/event-stream"):
        if words is not None:
            return super().answer(body, question, words, finish, kind)
        plan, slow = re.search(r"plan:([gbtc]+)", question), re.search(r"slow:([\d.]+)", question)
        nonce = re.search(r"nonce:(\w+)", question)
        tries = self.server.tries[question]
        if len(body["messages"]) > 2 and plan:  # words were sent back: the last message is ours
            tries = (len(body["messages"]) + 1) // 2
        letter = plan[1][min(tries, len(plan[1])) - 1] if plan else "g"
        if not plan and "Think again" in question:
            letter = self.server.after_words
        text = {"g": GOOD, "c": CUT}.get(letter, BAD)
        finish = "length" if letter == "c" else finish
        if nonce:
            text = f"Nonce {nonce[1]}. {text}"
        if slow:
            self.wait(float(slow[1]))
        if "refused" in question:
            return self.refuse(404, "there is no such model", param="model", code="model_not_found")
        message = {"role": "assistant", "content": text}
        if letter == "t":
            finish = "tool_calls"
            message = {"role": "assistant", "content": None, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
        if not body.get("stream"):
            choices = [{"index": i, "message": message, "finish_reason": finish} for i in range(body.get("n") or 1)]
            return self.reply(200, {"id": "chatcmpl-up", "object": "chat.completion", "created": 1, "model": "test-model",
                                    "choices": choices, "timings": {"own": 0.1}, **({"usage": USAGE} if self.server.counts else {})})
        self.begin("text/event-stream; charset=utf-8")
        self.event({"role": "assistant", "content": ""})
        for piece in re.findall(r"\S+\s*", text):
            time.sleep(self.server.pause)
            self.event({"content": piece}, logprobs=self.logprobs([piece]) if body.get("logprobs") else None)
        self.event({}, finish)
        if self.server.counts:
            self.chunk("data: " + json.dumps({"choices": [], "usage": USAGE}) + "\n\n")
        self.chunk("data: [DONE]\n\n")
        self.chunk("")

    def wait(self, seconds):
        """Notices within a few milliseconds that whoever asked has gone."""
        end = time.monotonic() + seconds
        self.connection.settimeout(0.005)
        try:
            while time.monotonic() < end:
                try:
                    if self.connection.recv(1, socket.MSG_PEEK) == b"":
                        self.server.gone.append(time.monotonic())
                        raise ConnectionResetError
                except TimeoutError:
                    pass
        finally:
            self.connection.settimeout(None)


class Upstream(fault_server.Server):
    def __init__(self, **options):
        super().__init__(**options)
        self.RequestHandlerClass = Handler
        self.seen, self.passed, self.gone, self.after_words = [], [], [], "g"
        self.open = set()
        self.counts = True  # tokens

    def stop(self):
        super().stop()
        for connection in list(self.open):  # kept ones too
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
