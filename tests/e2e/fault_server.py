"""An OpenAI-compatible server that misbehaves on purpose: what test_remote.py asks. A question that holds the word
`fault:NAME` or `fault:NAME-always` gets that fault on its first tries, or on all; any other is answered "Answer: yes" in small
pieces. Every request is counted, so that a test can say how often each question was asked and how often answered."""
import http.server
import json
import re
import socket
import struct
import threading
import time

KEY = "drr-test-key-5f8a1c93"
TIMES = {"storm": 3, "unavailable": 2, "reset": 2}  # tries that fail before the one that does not; else 1
WORDS = ["It ", "is ", "so, ", "and ", "known.\n", "Answer", ":", " yes", "\n"]


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, key=KEY, models=("test-model",), refuses=(), logprobs=False, grammar=False, streams=True, pause=0,
                 port=0, room=None, loading=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.key, self.models, self.refuses, self.logprobs = key, models, refuses, logprobs
        self.grammar, self.streams, self.pause, self.room = grammar, streams, pause, room
        self.lock = threading.Lock()
        self.tries, self.answered, self.bodies, self.keys_seen = {}, {}, [], set()
        self.connections, self.now, self.most_at_once, self.tokens = set(), 0, 0, 0
        self.loading = loading  # requests for the list of models that come too early
        self.refused, self.early = 0, 0  # 429s; requests that came before the wait that the last one asked for
        self.come_back = 0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request, client_address):
        pass  # clients leave in the middle: that is what is tested

    def stop(self):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def reply(self, status, body, kind="application/json", headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, message, headers=(), **more):
        self.reply(status, {"error": {"message": message, "type": "test", "param": None, "code": None, **more}}, headers=headers)

    def allowed(self):
        given = self.headers.get("Authorization", "")
        self.server.keys_seen.add(given)
        if self.server.key is None or given == f"Bearer {self.server.key}":
            return True
        self.refuse(401, f"Incorrect API key provided: {given.removeprefix('Bearer ')}")
        return False

    def do_GET(self):
        with self.server.lock:
            self.server.loading -= 1
            early = self.server.loading >= 0
        if early:
            return self.refuse(503, "Loading model")
        if self.allowed():
            self.reply(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.server.models]})

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = body["messages"][-1]["content"]
        with server.lock:
            server.connections.add(self.client_address)
            server.bodies.append(body)
            tries = server.tries[question] = server.tries.get(question, 0) + 1
            server.now += 1
            server.most_at_once = max(server.most_at_once, server.now)
            server.early += time.monotonic() < server.come_back
            full = server.room is not None and server.now > server.room
        try:
            if not self.allowed():
                return
            if full:
                server.refused += 1
                return self.refuse(429, "no room")
            for name in server.refuses:
                if name in body:
                    return self.refuse(400, f"Unsupported parameter: '{name}'", param=name)
            found = re.search(r"fault:([a-z0-9]+)(-always)?", question)
            if found and (found[2] or tries <= TIMES.get(found[1], 1)):
                getattr(self, "fault_" + found[1])(body, question)
            else:
                self.answer(body, question)
        except OSError:
            self.close_connection = True
        finally:
            with server.lock:
                server.now -= 1

    # ---- answering

    def begin(self, kind="text/event-stream"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data):
        data = data if isinstance(data, bytes) else data.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    @staticmethod
    def logprobs(words, at=None):
        """Of words[at], or of all: -0.25 each, and -5 of one before "</think>"."""
        chosen = [(word, -5 if "</think>" in words[i + 1:] else -0.25) for i, word in enumerate(words) if at in (None, i)]
        return {"content": [{"token": word, "logprob": p, "top_logprobs": [
            {"token": word, "logprob": p}, {"token": "other", "logprob": p - 1.5}]} for word, p in chosen]}

    def event(self, delta=None, finish=None, logprobs=None, **more):
        choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
        if logprobs is not None:
            choice["logprobs"] = logprobs
        self.chunk("data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more}) + "\n\n")

    def end(self, question, written, usage=True):
        with self.server.lock:
            self.server.answered[question] = self.server.answered.get(question, 0) + 1
            self.server.tokens += 50 + written
        if usage:
            self.chunk("data: " + json.dumps({"choices": [], "usage": {
                "prompt_tokens": 50, "completion_tokens": written, "prompt_tokens_details": {"cached_tokens": 30}}}) + "\n\n")
        self.chunk("data: [DONE]\n\n")
        self.chunk("")

    def answer(self, body, question, words=WORDS, finish="stop", kind="text/event-stream"):
        server = self.server
        one_word = re.fullmatch(r'root ::= "(\w+)"', body.get("grammar", ""))
        if server.grammar and one_word:  # other grammars are what WORDS are written in
            words = [one_word[1]]
        if not server.streams:
            time.sleep(server.pause * len(words))
            choice = {"index": 0, "message": {"role": "assistant", "content": "".join(words)}, "finish_reason": finish}
            if server.logprobs and body.get("logprobs"):
                choice["logprobs"] = self.logprobs(words)
            self.reply(200, {"object": "chat.completion", "choices": [choice],
                "usage": {"prompt_tokens": 50, "completion_tokens": len(words)}})
            with server.lock:
                server.answered[question] = server.answered.get(question, 0) + 1
                server.tokens += 50 + len(words)
            return
        self.begin(kind)
        self.chunk(": keep-alive\n\n")
        self.event({"role": "assistant", "content": ""})
        for at, word in enumerate(words):
            time.sleep(server.pause)
            self.event({"content": word}, logprobs=self.logprobs(words, at) if server.logprobs and body.get("logprobs") else None)
        self.event({}, finish)
        self.end(question, len(words))

    # ---- faults

    def fault_reset(self, body, question):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def fault_stall(self, body, question):
        self.begin()
        self.event({"content": "It "})
        time.sleep(30)

    def fault_silent(self, body, question):
        time.sleep(30)

    def fault_half(self, body, question):
        self.begin()
        self.event({"content": "It "})
        self.chunk('data: {"id": "c", "choices": [{"index": 0, "delta": {"conte')
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def fault_halfclean(self, body, question):  # the same, but the chunked body ends as it should
        self.begin()
        self.chunk('data: {"id": "c", "choices": [{"index": 0, "delta": {"conte')
        self.chunk("")

    def fault_cut(self, body, question):
        self.begin()
        for word in WORDS[:4]:
            self.event({"content": word})
        self.chunk("")

    def fault_badjson(self, body, question):
        self.begin()
        self.event({"content": "It "})
        self.chunk("data: {not json}\n\n")
        self.chunk("data: [DONE]\n\n")
        self.chunk("")

    def fault_storm(self, body, question):
        self.server.come_back = time.monotonic() + 1
        self.refuse(429, "too many requests", [("Retry-After", "1")])

    def fault_stormdate(self, body, question):
        when = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
        self.refuse(429, "too many requests", [("Retry-After", when)])

    def fault_later(self, body, question):
        self.refuse(429, "not now", [("Retry-After", "5")])

    def fault_stormhour(self, body, question):
        self.refuse(429, "too many requests", [("Retry-After", "3600")])

    def fault_quota(self, body, question):
        self.refuse(429, "You exceeded your current quota", code="insufficient_quota")

    def fault_unavailable(self, body, question):
        self.refuse(503, "Loading model")

    def fault_badgateway(self, body, question):
        self.reply(502, b"<html>bad gateway</html>", "text/html")

    def fault_html(self, body, question):
        self.reply(200, b"<html>Please log in</html>", "text/html")

    def fault_plain(self, body, question):
        self.answer(body, question, kind="text/plain")

    def fault_empty(self, body, question):
        self.reply(200, b"", "application/json")

    def fault_errorbody(self, body, question):
        self.reply(200, {"error": {"message": "upstream broke", "code": 502}})

    def fault_errorevent(self, body, question):
        self.begin()
        self.event({"content": "It "})
        self.chunk('data: {"error": {"message": "the engine died", "code": 500}}\n\n')
        self.chunk("")

    def fault_context(self, body, question):
        self.refuse(400, "the request exceeds the available context size", type="exceed_context_size_error")

    def fault_drip(self, body, question):
        self.begin()
        while True:
            self.event({"content": "so "})
            time.sleep(0.5)

    def fault_bytes(self, body, question):  # an ordinary answer, a few bytes at a time
        self.begin()
        text = "".join("data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": word}}]}) + "\r\n\r\n"
                       for word in WORDS)
        for at in range(0, len(text), 7):
            self.chunk(text[at:at + 7])
        self.event({}, "stop")
        self.end(question, len(WORDS))

    def fault_huge(self, body, question):
        self.begin()
        while True:
            self.event({"role": "assistant"}, padding="x" * 100_000)

    def fault_hugeline(self, body, question):
        self.begin()
        self.chunk("data: ")
        while True:
            self.chunk("x" * 100_000)

    def fault_garbage(self, body, question):
        self.wfile.write(b"\x00\xff\xfenot http at all\r\n\r\n" * 20)
        self.close_connection = True

    def fault_filter(self, body, question):
        self.answer(body, question, WORDS[:3], "content_filter")

    def fault_length(self, body, question):
        self.answer(body, question, WORDS[:5], "length")

    def fault_nodone(self, body, question):
        self.begin()
        for word in WORDS:
            self.event({"content": word})
        self.event({}, "stop")
        with self.server.lock:
            self.server.answered[question] = self.server.answered.get(question, 0) + 1
        time.sleep(30)

    def fault_think(self, body, question):
        self.answer(body, question, ["<th", "ink>Perhaps. Answer: no\n", "</thi", "nk>\n\n", *WORDS])

    def fault_opened(self, body, question):
        self.answer(body, question, ["<think>", "Perhaps ", "not.\n", "</think>", "\n\n", *WORDS])

    def fault_unopened(self, body, question):  # as of a template that ends the prompt with "<think>"
        self.answer(body, question, ["Perhaps ", "not.\n", "</think>", "\n\n", *WORDS])

    def fault_ponder(self, body, question):
        self.begin()
        for _ in range(60):
            self.event({"reasoning_content": "Hm. "})
            time.sleep(0.1)
        self.event({}, "stop")
        self.end(question, 60)

    def fault_reasoning(self, body, question):
        self.begin()
        self.event({"reasoning_content": "Perhaps. Answer: no\n"})
        for word in WORDS:
            self.event({"content": word})
        self.event({}, "stop")
        self.end(question, len(WORDS) + 5)

    def fault_echo(self, body, question):
        self.answer(body, question, [self.headers["Authorization"] + "\n", *WORDS])

    def fault_echoerror(self, body, question):
        self.refuse(400, "bad request with " + str(dict(self.headers)))

    def fault_unauthorized(self, body, question):
        self.refuse(401, "expired key " + self.headers["Authorization"])

    def fault_redirect(self, body, question):
        self.reply(302, b"", headers=[("Location", self.server.url + "/elsewhere")])
