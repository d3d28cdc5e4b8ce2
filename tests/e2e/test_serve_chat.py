#!/usr/bin/env python3
"""drr serve's loop over chat completions, against an upstream that answers by plan and misbehaves on purpose: verdicts,
retries, what is chosen when turns run out, abstention, agreement without a critic, streams in both modes, what is passed
through, upstream errors, clients that leave, and the embedded model. `test_serve_chat.py NAME...` runs only these tests."""
import concurrent.futures
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tiny_bert  # noqa: E402
from checks import DRR, ROOT, check, failures, lacking, model_path  # noqa: E402
from fault_server import KEY  # noqa: E402
from planned_server import BAD, GOOD, Upstream  # noqa: E402

WORK = tempfile.mkdtemp(prefix="drr-serve-")


class Serve:
    """A running drr serve."""

    def __init__(self, *arguments, key=KEY, env=None, threshold=True):
        self.log = open(os.path.join(WORK, f"serve-{time.monotonic_ns()}.log"), "w+")
        if threshold and "--critic" in arguments:  # far from either kind of answer
            arguments = (*arguments, "--threshold", "0.5")
        environment = {**os.environ, **(env or {})}
        environment.pop("OPENAI_API_KEY", None)
        if key:
            environment["DRR_UPSTREAM_API_KEY"] = key
        self.process = subprocess.Popen([DRR, "serve", "--port", "0", *map(str, arguments)], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log, env=environment)
        self.port = None
        for _ in range(600):
            found = re.search(r"http://127\.0\.0\.1:(\d+)", self.text())
            if found:
                self.port = int(found[1])
                break
            if self.process.poll() is not None:
                raise RuntimeError("drr serve does not start: " + self.text())
            time.sleep(0.05)
        for _ in range(200):
            if self.ask_get("/health")[0] == 200:
                break
            time.sleep(0.05)

    def text(self):
        with open(self.log.name) as file:
            return file.read()

    def ask_get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path)
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        return reply.status, json.loads(data) if data[:1] == b"{" else data

    def post(self, body, path="/v1/chat/completions", headers=(), raw=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", path, raw if raw is not None else json.dumps(body),
                           {"Content-Type": "application/json", **dict(headers)})
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        return Reply(reply, data)

    def chat(self, text, drr=None, **more):
        messages = more.pop("messages", [{"role": "user", "content": text}])
        body = {"model": "test-model", "messages": messages, **more}
        if drr is not None:
            body["drr"] = drr
        return self.post(body)

    def stop(self):
        self.process.terminate()
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = "it had to be killed"
        return code


class Reply:
    def __init__(self, reply, data):
        self.status, self.headers, self.data = reply.status, {k.lower(): v for k, v in reply.getheaders()}, data
        self.json = json.loads(data) if data[:1] in (b"{", b"[") else None
        self.events = []
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            lines = [block for block in data.decode().split("\n\n") if block.startswith("data: ")]
            self.done = bool(lines) and lines[-1] == "data: [DONE]"
            self.events = [json.loads(line[6:]) for line in lines if line != "data: [DONE]"]
            self.comments = data.decode().count("\n:\n\n") + data.decode().startswith(":\n\n")

    @property
    def drr(self):
        if self.events:
            return next((e["drr"] for e in reversed(self.events) if "verdict" in e.get("drr", {})), None)
        return (self.json or {}).get("drr")

    @property
    def content(self):
        if self.events:
            return self.joined("content")
        return self.json["choices"][0]["message"]["content"]

    def joined(self, field):
        return "".join(c["delta"].get(field) or "" for e in self.events for c in e.get("choices", []))

    def __str__(self):
        return f"{self.status} {self.headers}\n{self.data[:1500].decode(errors='replace')}"


def make_critic(name="critic.gguf", *more):
    """A critic that tells GOOD from BAD by their words: nothing else in what it is trained on says which are right, least
    of all that two of them agree."""
    folder, traces, critic = (os.path.join(WORK, file) for file in (name + ".encoder", name + ".traces.jsonl", name))
    tiny_bert.make(folder, layers=2)
    with open(traces, "w") as file:
        for number in range(140):
            gold = "yes" if number % 2 else "no"
            for sample in range(2):
                right = bool((number // 2 >> sample) % 2)
                answer = gold if right else {"yes": "no", "no": "yes"}[gold]
                why = "I know this well" if right else "I am not sure but would guess"
                nonce = f"Nonce n{number}x{sample}. " if number % 3 else ""
                file.write(json.dumps({
                    "task": "plans", "id": f"q{number}", "kind": "boolean", "gold": gold, "reasoner": "m", "prompt": "recorded",
                    "question": f"Is it true{' that ice is cold' if number % 5 % 2 else ''}? plan:{'bg' * (number % 3)} nonce:n{number}",
                    "sample": sample, "answer": answer, "correct": right,
                    "text": f"{nonce}{why}, thinking of number {number}.\nAnswer: {answer}"}) + "\n")
    done = subprocess.run([DRR, "train", "--traces", traces, "--encoder", folder, "--out", critic, "--epochs", "6",
                           "--learning-rate", "2e-3", "--batch", "16", "--patience", "0", "--max-length", "64", "--precision", "fp32", *more],
                          capture_output=True, text=True, stdin=subprocess.DEVNULL)
    check("a critic is trained", done.returncode == 0, done.stderr[-600:])
    return critic


def is_sum(usage, turns):
    return (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (50 * turns, 9 * turns, 59 * turns)


# ---- with a critic

def test_verdicts(critic):
    up = Upstream()
    s = Serve("--upstream", up.url, "--critic", critic)
    r = s.chat("Is it true that ice is cold? plan:g", extra_field={"kept": [1, 2]}, temperature=0)
    d = r.drr
    check("a good answer is accepted", r.status == 200 and d and d["verdict"] == "accept" and r.content == GOOD, r)
    check("with its P(correct) and threshold", d and d["p_correct"] >= d["threshold"] > 0, d)
    check("and the critic's name", d and re.fullmatch(r"\S+@[0-9a-f]{8}", d["dm"]) and d["judge"] == "critic", d)
    check("and headers", r.headers.get("x-drr-verdict") == "accept" and r.headers.get("x-drr-turns") == "1" and
          abs(float(r.headers.get("x-drr-p-correct", -1)) - d["p_correct"]) < 1e-3 and r.headers.get("x-drr-dm") == d["dm"] and
          r.headers.get("x-drr-request-id"), r.headers)
    check("the upstream's other fields stay", r.json["timings"] == {"own": 0.1} and r.json["id"] == "chatcmpl-up", r.json)
    body = up.bodies[-1]
    check("what the client sent goes up whole", body["extra_field"] == {"kept": [1, 2]} and body["temperature"] == 0 and
          "drr" not in body, body)
    check("with the server's key", up.seen[-1][0].get("Authorization") == f"Bearer {KEY}", up.seen[-1])

    r = s.chat("Is it true that ice is cold? plan:bg one", drr={"max_turns": 3}, temperature=0, seed=5)
    check("a bad answer is tried again", r.drr["verdict"] == "accept" and r.content == GOOD, r)
    check("the ledger has both turns", [t["verdict"] for t in r.drr["turns"]] == ["reject", "accept"] and
          [t["answer"] for t in r.drr["turns"]] == ["no", "yes"], r.drr)
    check("usage is the sum of both", is_sum(r.json["usage"], 2), r.json["usage"])
    check("the second is drawn otherwise", up.bodies[-1]["temperature"] > 0 and up.bodies[-1]["seed"] == 6 and
          len(up.bodies[-1]["messages"]) == 1, up.bodies[-1])

    history = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it true that ice is cold? nothing"}]
    up.after_words = "g"
    up.tries.clear()
    r = s.post({"model": "drr-test-model", "messages": [*history[:1], {"role": "user", "content": "Is it true? plan:b"}],
                "drr": {"feedback": True, "max_turns": 2}})
    sent = up.bodies[-1]
    check("words of rejection go back with the history", len(sent["messages"]) == 4 and
          sent["messages"][2] == {"role": "assistant", "content": BAD} and "judged the answer no to be wrong" in
          sent["messages"][3]["content"], sent)
    check("and help", r.drr["verdict"] == "accept", r)
    check("drr- is taken off the model's name", sent["model"] == "test-model", sent)

    for policy, wanted in (("vote", "no"), ("best", "no"), ("last", "no")):
        r = s.chat(f"Is it true that ice is cold? plan:bbb {policy}", drr={"max_turns": 2, "on_exhausted": policy})
        check(f"turns that run out: {policy}", r.drr["verdict"] == "reject" and r.drr["chosen_by"] == policy and
              r.drr["ended_by"] == "turns" and r.content == BAD and is_sum(r.json["usage"], 2), r)
    r = s.chat("Is it true that ice is cold? plan:bbb", drr={"max_turns": 2, "on_exhausted": "abstain", "abstain_text": "Pass."})
    check("turns that run out: abstain", r.status == 200 and r.content == "Pass." and r.drr["verdict"] == "abstain" and
          r.json["choices"][0]["finish_reason"] == "stop" and r.headers["x-drr-verdict"] == "abstain" and
          r.json["choices"][0]["message"]["refusal"] is None and is_sum(r.json["usage"], 2) and
          r.drr["p_correct"] < r.drr["threshold"], r)
    r = s.chat("Is it true that ice is cold? plan:bbb x", drr={"max_turns": 1, "on_reject": "abstain", "abstain_as": "refusal"})
    check("as a refusal where that is asked for", r.json["choices"][0]["message"]["refusal"], r)
    r = s.chat("Is it true that ice is cold? plan:bbbb tokens", drr={"max_turns": 4, "max_tokens": 12})
    check("tokens that run out", r.drr["ended_by"] == "tokens" and len(r.drr["turns"]) == 2 and
          up.bodies[-1]["max_completion_tokens"] == 3, r.drr, up.bodies[-1])
    began = time.monotonic()
    r = s.chat("Is it true that ice is cold? plan:bb slow:1.5", drr={"deadline_ms": 2000})
    check("time that runs out", 1.9 < time.monotonic() - began < 2.4 and r.drr["ended_by"] == "deadline" and
          r.content == BAD, r)
    r = s.chat("Is it true that ice is cold? plan:g slow:5", drr={"deadline_ms": 300})
    check("time that runs out before any answer", r.status == 504 and r.json["error"]["type"], r)
    r = s.chat("Is it true that ice is cold? plan:b threshold", drr={"threshold": 0.0})
    check("a threshold of one's own", r.drr["verdict"] == "accept" and r.drr["threshold"] == 0, r)
    r = s.chat("Is it true that ice is cold? plan:bg shadow", drr={"shadow": True})
    check("shadow mode judges and never interferes", r.content == BAD and r.drr["verdict"] == "reject" and r.drr["shadow"] and
          len(r.drr["turns"]) == 1, r)
    r = s.chat("Is it true that ice is cold? plan:b asked", drr={"judge": False})
    check("who wants no judge gets none", r.content == BAD and r.drr["verdict"] == "passthrough" and r.drr["reason"] == "asked" and
          r.headers["x-drr-verdict"] == "passthrough", r)
    r = s.chat("Is it true? plan:g", drr={"target_error": 0.01})
    check("a promise that the critic does not make is refused", r.status == 400 and r.json["error"]["param"] == "drr.target_error", r)
    check("and what it refuses costs nothing upstream", "target_error" not in json.dumps(up.bodies), up.bodies[-1])
    check("it stops at SIGTERM", s.stop() == 0, s.text())
    check("the key is in no log", KEY not in s.text())
    up.stop()


def test_refusals(critic):
    up = Upstream()
    s = Serve("--upstream", up.url, "--critic", critic)
    fine = [{"role": "user", "content": "x"}]
    for body, param in (({"messages": []}, "messages"), ({"messages": fine, "drr": {"max_turns": 0}}, "drr.max_turns"),
                        ({"messages": fine, "drr": {"treshold": 0.5}}, "drr.treshold"), ({"messages": fine, "drr": 3}, "drr"),
                        ({"messages": fine, "stream": 1}, "stream"), ({"messages": [{"content": "x"}]}, "messages[0]")):
        r = s.post(body)
        check(f"400 names {param}", r.status == 400 and r.json["error"]["param"] == param and
              r.json["error"]["type"] == "invalid_request_error" and set(r.json["error"]) == {"message", "type", "param", "code"}, r)
    r = s.post(None, raw="{not json")
    check("400 for no JSON", r.status == 400 and "JSON" in r.json["error"]["message"], r)
    check("nothing of that went up", not up.bodies, up.bodies)
    r = s.chat("Is it true? plan:g", max_tokens=None, model="drr")
    check("the one model there is needs no name", r.status == 200 and up.bodies[-1]["model"] == "test-model", r, up.bodies[-1:])
    s.stop()
    up.stop()


def test_passthrough(critic):
    up = Upstream()
    s = Serve("--upstream", up.url, "--critic", critic)
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    r = s.chat("Is it true? plan:t", tools=tools)
    check("tools go through unjudged", r.status == 200 and r.json["choices"][0]["message"]["tool_calls"][0]["id"] == "call_1" and
          r.drr["verdict"] == "passthrough" and r.drr["reason"] == "tools" and r.drr["judge"] == "none", r)
    r = s.chat("Is it true? plan:t calls")
    check("so does an answer that calls a tool unasked", r.json["choices"][0]["message"]["tool_calls"] and
          r.drr["reason"] == "tool_calls", r)
    r = s.chat("Is it true? plan:g two", n=2)
    check("so do several choices", len(r.json["choices"]) == 2 and r.drr["reason"] == "n" and is_sum(r.json["usage"], 1), r)
    r = s.chat("", messages=[{"role": "user", "content": [{"type": "text", "text": "What is it? plan:g"},
                                                            {"type": "image_url", "image_url": {"url": "data:,"}}]}])
    check("so does what is not text", r.status == 502 or r.drr["reason"] == "content", r)
    r = s.chat("Is it true? plan:g stream", tools=tools, stream=True, drr={"max_turns": 2})
    check("a stream with tools goes through as it comes", r.done and r.content == GOOD and r.drr is None and
          r.headers["x-drr-verdict"] == "passthrough" and up.bodies[-1]["stream"] is True and "drr" not in up.bodies[-1], r)

    status, models = s.ask_get("/v1/models")
    check("models are listed under both names", status == 200 and [m["id"] for m in models["data"]] ==
          ["drr-test-model", "test-model"] and models["object"] == "list", models)
    status, model = s.ask_get("/v1/models/drr-test-model")
    check("one of them too", status == 200 and model["id"] == "drr-test-model" and model["object"] == "model", model)
    check("and one that is not there", s.ask_get("/v1/models/nothing")[0] == 404)
    for path in ("/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"):
        odd = b'{"a":  1.10, "z": [ ]}'
        r = s.post(None, path + "?q=a%20b", raw=odd, headers={"Authorization": "Bearer client-key-123456"})
        where, body, headers = up.passed[-1]
        check(f"{path} goes through unchanged", r.status == 200 and r.json["echo"] == odd.decode() and body == odd and
              where == path + "?q=a%20b" and headers["Authorization"] == f"Bearer {KEY}", r, up.passed[-1])
    check("a client's key goes nowhere", "client-key-123456" not in repr(up.passed) + repr(up.seen))
    s.stop()
    s = Serve("--upstream", up.url, "--critic", critic, "--share", "0%")
    r = s.chat("Is it true that ice is cold? plan:b share")
    check("what is not of the share is not judged", r.content == BAD and r.drr["reason"] == "share", r)
    s.stop()
    up.stop()


def test_streams(critic):
    up = Upstream()
    s = Serve("--upstream", up.url, "--critic", critic)
    r = s.chat("Is it true that ice is cold? plan:bg", stream=True, stream_options={"include_usage": True})
    first, last = r.events[0], r.events[-2]
    check("a held stream has the accepted answer alone", r.status == 200 and r.done and r.content == GOOD, r)
    check("and begins with the role", first["choices"][0]["delta"] == {"role": "assistant", "content": ""}, first)
    check("the last chunk has reason and account", last["choices"][0]["finish_reason"] == "stop" and
          last["drr"]["verdict"] == "accept" and len(last["drr"]["turns"]) == 2, last)
    check("usage follows, of both turns", r.events[-1]["choices"] == [] and is_sum(r.events[-1]["usage"], 2) and
          all(e["usage"] is None for e in r.events[:-1]), r.events[-1])
    check("all chunks are of one answer", len({(e["id"], e["model"], e["created"], e["object"]) for e in r.events}) == 1 and
          first["object"] == "chat.completion.chunk", r)
    check("its headers are a stream's", r.headers["content-type"].startswith("text/event-stream") and
          r.headers.get("cache-control") == "no-cache" and r.headers.get("x-accel-buffering") == "no", r.headers)
    check("and tell the verdict, as nothing had been sent before", r.headers.get("x-drr-verdict") == "accept", r.headers)
    r = s.chat("Is it true that ice is cold? plan:g nousage", stream=True)
    check("without include_usage there is none", all("usage" not in e for e in r.events) and r.done, r)

    r = s.chat("Is it true that ice is cold? plan:bg live", stream=True, drr={"stream_mode": "live"})
    turns = [e["drr"]["turn"] for e in r.events if "turn" in e.get("drr", {})]
    check("live: attempts are shown as reasoning", BAD in r.joined("reasoning_content") and GOOD in r.joined("reasoning_content"), r)
    check("only the accepted one is content", r.content == GOOD and r.done and r.drr["verdict"] == "accept", r)
    check("each verdict has an event", [t["verdict"] for t in turns] == ["reject", "accept"], turns)
    r = s.chat("Is it true that ice is cold? plan:bg shadowlive", stream=True, drr={"shadow": True})
    check("in shadow mode the stream is the answer", r.content == BAD and r.drr["verdict"] == "reject" and
          r.joined("reasoning_content") == "", r)
    r = s.chat("Is it true that ice is cold? plan:b", stream=True, drr={"max_turns": 1, "on_exhausted": "abstain", "abstain_text": "Pass."})
    check("an abstention is streamed", r.content == "Pass." and r.drr["verdict"] == "abstain" and r.done, r)
    r = s.chat("Is it true that ice is cold? fault:context-always", stream=True)
    check("an error before anything is sent has its status", r.status == 400 and "context" in r.json["error"]["message"], r)
    r = s.chat("Is it true? plan:t stream", stream=True)
    check("a tool call in a held stream arrives", r.done and any(c["delta"].get("tool_calls") for e in r.events
                                                                 for c in e["choices"]), r)
    s.stop()
    s = Serve("--upstream", up.url, "--critic", critic, "--keepalive", 1, "--timeout", 4)
    r = s.chat("Is it true that ice is cold? plan:g slow:2.5", stream=True)
    check("a long wait is filled with comments", r.comments >= 2 and r.content == GOOD and r.drr["verdict"] == "accept", r)
    r = s.chat("Is it true that ice is cold? fault:silent-always", stream=True)
    error = r.events[-1].get("error") if r.events else None
    check("an error after that is an event", r.status == 200 and error and set(error) == {"message", "type", "param", "code"} and
          "4 s" in error["message"], r)
    s.stop()
    up.stop()


def test_upstream_errors(critic):
    up = Upstream()
    s = Serve("--upstream", up.url, "--critic", critic, "--timeout", 8, "--retries", 3)

    def ask(fault, **more):
        return s.chat(f"Is it true that ice is cold? fault:{fault} nonce:{fault.replace('-', '')}", **more)

    helped = ("reset", "unavailable", "badgateway", "half", "halfclean", "cut", "badjson", "html", "empty", "errorbody", "errorevent",
              "garbage")
    for_ever = {"unavailable-always": 503, "badgateway-always": 502, "reset-always": 502, "redirect-always": 502, "silent-always": 504,
                "unauthorized-always": 502}
    others = ("storm", "stormhour-always", "context-always", "echoerror-always", "think-always", "nodone-always")
    began, taken = time.monotonic(), {}

    def one(fault):
        r = ask(fault)
        taken[fault] = time.monotonic() - began
        return r

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        replies = dict(zip([*helped, *for_ever, *others], pool.map(one, [*helped, *for_ever, *others])))
    for fault in helped:
        r = replies[fault]
        check(f"{fault}: another try helps", r.status == 200 and r.drr["verdict"] == "accept" and f"Nonce {fault}." in r.content, r)
    for fault, status in for_ever.items():
        check(f"{fault}: {status}", replies[fault].status == status and replies[fault].json["error"]["message"], replies[fault])
    check("Retry-After is kept", replies["storm"].status == 200 and taken["storm"] >= 3, replies["storm"], taken["storm"])
    r = replies["unauthorized-always"]
    check("a refused key is not shown", KEY not in str(r) and "key" in r.json["error"]["message"], r)
    r = replies["stormhour-always"]
    check("a wait of an hour is the client's to make", r.status == 429 and r.headers.get("retry-after") == "3600" and
          r.json["error"]["type"] == "rate_limit_error" and taken["stormhour-always"] < 5, r)
    r = replies["context-always"]
    check("what the client did wrong it hears in the upstream's words", r.status == 400 and
          r.json["error"]["type"] == "exceed_context_size_error", r)
    r = replies["echoerror-always"]
    check("without the server's key", r.status == 400 and KEY not in str(r) and "*****" in str(r), r)
    r = replies["think-always"]
    check("thoughts in the answer are not judged", r.status == 200 and r.drr["turns"][0]["answer"] == "yes", r)
    r = replies["nodone-always"]
    check("an answer whose stream never ends is not waited for", r.status == 200 and "Answer: yes" in r.content and
          taken["nodone-always"] < 7, r)
    r = s.chat("Is it true that ice is cold? fault:cut nonce:livecut", stream=True, drr={"stream_mode": "live"})
    check("live: an attempt that breaks off is followed by another", r.done and r.content == f"Nonce livecut. {GOOD}" and
          len(r.drr["turns"]) == 2 and r.drr["turns"][0]["finish_reason"] == "error", r)
    r = s.chat("Is it true that ice is cold? fault:plain nonce:p")
    check("a stream that is called plain text is read", r.status == 200 and "Answer: yes" in r.content, r)
    port = up.server_address[1]
    up.stop()
    r = s.chat("Is it true? plan:g", stream=False)
    check("an upstream that is gone: 502", r.status == 502, r)
    up = Upstream(port=port)
    r = s.chat("Is it true? plan:g back")
    check("and back again", r.status == 200, r)
    s.stop()
    check("the key is in no log", KEY not in s.text())
    up.stop()


def test_gone(critic):
    up = Upstream()
    s = Serve("--upstream", up.url, "--critic", critic)
    for stream, body in ((False, {}), (True, {}), (True, {"drr": {"stream_mode": "live"}})):
        up.gone.clear()
        text = json.dumps({"model": "test-model", "stream": stream, **body,
                           "messages": [{"role": "user", "content": f"Is it true? plan:g slow:20 {stream} {len(body)}"}]})
        client = socket.create_connection(("127.0.0.1", s.port))
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text.encode()))
        time.sleep(0.4)
        left = time.monotonic()
        client.close()
        for _ in range(100):
            if up.gone:
                break
            time.sleep(0.01)
        check(f"who leaves takes the upstream's work along (stream: {stream})", up.gone and up.gone[0] - left < 0.1,
              up.gone and up.gone[0] - left)
    r = s.chat("Is it true? plan:g after")
    check("and others are served", r.status == 200 and r.drr["verdict"] == "accept", r)
    s.stop()
    up.stop()


def test_nonces(critic):
    """Many at once, with faults: each answer carries its own request's nonce, and what was bad was tried again."""
    up = Upstream(pause=0.001)
    s = Serve("--upstream", up.url, "--critic", critic, "--retries", 4)
    wrong, lock = [], threading.Lock()
    plans = ("plan:g", "plan:bg", "plan:bbg", "plan:g fault:reset", "plan:g fault:half", "plan:g fault:badgateway")

    def client(number):
        for i in range(12):
            nonce = f"n{number}x{i}"
            stream = (number + i) % 3 == 0
            live = {"stream_mode": "live"} if stream and i % 2 else {}
            try:
                r = s.chat(f"Is it true? {plans[(number + i) % len(plans)]} nonce:{nonce}", stream=stream, drr={"max_turns": 3, **live})
                if r.status != 200 or not r.content.startswith(f"Nonce {nonce}.") or r.drr["verdict"] != "accept":
                    raise ValueError(str(r))
            except Exception as error:  # noqa: BLE001
                with lock:
                    wrong.append(f"{nonce}: {error}")

    threads = [threading.Thread(target=client, args=(i,)) for i in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check("288 answers at once, none mixed up", not wrong, len(wrong), *wrong[:2])
    check("connections are kept", len(up.connections) < 220, len(up.connections))
    s.stop()
    up.stop()


# ---- without a critic

def test_agreement(critic):
    up = Upstream()
    s = Serve("--upstream", up.url, "--samples", 4)
    r = s.chat("Is it true that ice is cold? plan:ggbg")
    check("without a critic samples judge each other", r.drr["judge"] == "agreement" and len(r.drr["turns"]) == 4 and
          r.drr["p_correct"] == 0.75 and r.drr["verdict"] == "accept" and r.content == GOOD, r)
    check("which says how to train one", "drr train" in r.drr["hint"], r.drr)
    check("usage is the sum of all", is_sum(r.json["usage"], 4), r.json["usage"])
    cut = s.chat("How many fruits are there? plan:ccc", drr={"max_turns": 3, "kind": "number", "on_exhausted": "abstain"})
    check("numbers of rationales that were cut before their answers are no agreement", cut.drr["verdict"] == "abstain" and
          all(turn.get("answer") is None for turn in cut.drr["turns"]), cut)
    r = s.chat("Is it true that ice is cold? plan:ggbb", drr={"threshold": 0.9, "on_exhausted": "abstain"})
    check("too little agreement is none", r.drr["verdict"] == "abstain" and is_sum(r.json["usage"], 4), r)
    r = s.chat("Is it true that ice is cold? plan:gb two", drr={"samples": 2})
    check("two that differ agree with nobody either", r.drr["verdict"] == "reject" and r.drr["p_correct"] == 0.5 and
          [t["verdict"] for t in r.drr["turns"]] == ["reject", "reject"], r)
    tied = [s.chat(f"Is it true that ice is cold? plan:cg cut {i}", drr={"samples": 2}).drr for i in range(6)]  # in either order
    check("of as many votes each, an answer that can be read goes out", all(
        d["verdict"] == "reject" and [t["answer"] for t in d["turns"]].count(None) == 1 and
        d["turns"][d["chosen_turn"]]["answer"] == "yes" for d in tied), tied)
    r = s.chat("Is it true that ice is cold? plan:g one", drr={"samples": 1})
    check("one sample agrees with nobody", r.drr["verdict"] == "passthrough" and r.drr["p_correct"] is None, r)
    r = s.chat("Is it true that ice is cold? plan:gbgg", stream=True)
    check("as a stream", r.content == GOOD and r.drr["p_correct"] == 0.75 and r.done, r)
    check("whose chunks have our fingerprint", {e.get("system_fingerprint") for e in r.events} ==
          {s.ask_get("/props")[1]["system_fingerprint"]}, r)
    check("and the threshold is told", s.ask_get("/props")[1]["threshold"] == r.drr["threshold"] == 0.5, r.drr)
    r = s.chat("Is it true? plan:gg", drr={"target_error": 0.1})
    check("a promise needs a critic", r.status == 400 and r.json["error"]["param"] == "drr.target_error", r)
    outer = Serve("--upstream", f"http://127.0.0.1:{s.port}/v1", "--critic", critic)
    r = outer.chat("Is it true that ice is cold? plan:g chain")
    check("a drr before a drr keeps both accounts", r.drr["judge"] == "critic" and r.drr["verdict"] == "accept" and
          r.drr["upstream"]["judge"] == "agreement" and is_sum(r.json["usage"], 4), r)
    outer.stop()
    s.stop()
    s = Serve("--upstream", up.url, "--on-judge-error", "fail", "--max-turns", "2")
    r = s.chat("Is it true that ice is cold? plan:g fail", drr={"samples": 1})
    check("where the judge must not fail, no judgement is an error", r.status == 502 and r.json["error"]["code"] == "unjudged", r)
    s.stop()
    up.stop()


# ---- real models

def test_llama_server(critic):
    """The same model behind llama-server: what it says of itself stays, and its log-probabilities are used."""
    prefix = subprocess.run([os.path.join(ROOT, "tools/setup"), "--offline", "prefix"], capture_output=True, text=True).stdout.strip()
    server = os.environ.get("DRR_LLAMA_SERVER") or os.path.join(prefix, "build/bin/llama-server")
    model = model_path("smollm2-135m")
    if not os.path.exists(model) or not os.path.exists(server):
        print("skip - llama-server (run tools/setup llama-tools and tools/setup models smollm2-135m)")
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([server, "-m", model, "--host", "127.0.0.1", "--port", str(port), "-np", "2", "-c", "2048",
                                "--api-key", KEY], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        s = Serve("--upstream", f"http://127.0.0.1:{port}/v1", "--critic", critic, "--retries", "8", "--timeout", "60")
        r = s.chat("Is ice cold?", max_tokens=12, logprobs=True, top_logprobs=2, drr={"max_turns": 2, "threshold": 1.0}, temperature=0)
        check("llama-server is waited for, and answers twice", r.status == 200 and len(r.drr["turns"]) == 2 and r.content and
              r.json["usage"]["completion_tokens"] == sum(t["completion_tokens"] for t in r.drr["turns"]), r)
        check("what it says of itself stays", r.json.get("timings") and r.json["choices"][0]["logprobs"], r)
        r = s.chat("Is ice cold?", max_tokens=12, stream=True, drr={"stream_mode": "live", "max_turns": 1},
                   stream_options={"include_usage": True})
        check("live through it", r.done and r.content and r.joined("reasoning_content") == r.content and
              0 < r.events[-1]["usage"]["completion_tokens"] <= 12, r)
        r = s.chat("word " * 3000)
        check("a prompt that is too long is its own error", r.status == 400 and
              r.json["error"]["type"] == "exceed_context_size_error", r)
        s.stop()
    finally:
        process.terminate()
        process.wait()


# ---- the embedded model

def test_embedded(critic):
    if not os.path.exists(model_path("smollm2-135m")):
        print("skip - the embedded model (run tools/setup models smollm2-135m)")
        return
    s = Serve("--reasoner", "smollm2-135m", "--critic", critic)
    r = s.chat("Is ice cold?", max_tokens=24, drr={"max_turns": 2})
    check("the embedded model answers", r.status == 200 and r.content and len(r.drr["turns"]) in (1, 2) and
          0 < r.json["usage"]["completion_tokens"] <= 48 and r.json["model"].startswith("smollm2") and
          r.json["system_fingerprint"].endswith(r.drr["dm"]), r)
    r = s.chat("Count to twenty.", max_tokens=40, stream=True, stop=["ten"], drr={"stream_mode": "live", "max_turns": 1}, temperature=0)
    check("live, and stopped where the client says", r.done and r.content and "ten" not in r.content and
          r.joined("reasoning_content").startswith(r.content[:10]), r)
    replies = []
    threads = [threading.Thread(target=lambda i=i: replies.append(s.chat(f"Say {i}.", max_tokens=16, drr={"max_turns": 1})))
               for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check("several at once", len(replies) == 6 and all(r.status == 200 and r.json["usage"]["completion_tokens"] <= 16 for r in replies),
          *replies[:1])
    r = s.chat("word " * 4000)
    check("a prompt that does not fit is the client's error", r.status == 400 and r.json["error"]["type"] ==
          "exceed_context_size_error", r)
    r = s.chat("x", tools=[{"type": "function", "function": {"name": "f"}}])
    check("what it cannot do it says", r.status == 501 and r.json["error"]["param"] == "tools", r)
    status, models = s.ask_get("/v1/models")
    check("its models", status == 200 and len(models["data"]) == 2 and models["data"][0]["id"].startswith("drr-smollm2"), models)
    text = json.dumps({"messages": [{"role": "user", "content": "Tell a long story."}], "stream": True, "max_tokens": 1500,
                       "drr": {"stream_mode": "live", "max_turns": 1}})
    client = socket.create_connection(("127.0.0.1", s.port))
    client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text.encode()))
    client.recv(4096)
    client.close()
    began = time.monotonic()
    r = s.chat("Say no.", max_tokens=4, drr={"max_turns": 1})
    check("who leaves makes room", r.status == 200 and time.monotonic() - began < 10, r)
    check("and it stops at SIGTERM", s.stop() == 0, s.text())


def main():
    why = lacking()
    if why:
        print(why)
        return 77
    tests = [test_verdicts, test_refusals, test_passthrough, test_streams, test_upstream_errors, test_gone, test_nonces,
             test_agreement, test_llama_server, test_embedded]
    wanted = sys.argv[1:]
    try:
        critic = make_critic()
        for test in tests:
            if not wanted or test.__name__ in wanted:
                test(critic)
    finally:
        if os.environ.get("DRR_KEEP"):
            print(WORK)
        else:
            shutil.rmtree(WORK, ignore_errors=True)
    return 1 if failures() else 0


if __name__ == "__main__":
    sys.exit(main())
