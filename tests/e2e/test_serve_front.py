#!/usr/bin/env python3
"""drr serve as its operators and its abusers meet it: keys, settings from three places, SIGTERM, logs; and slow,
giant, broken and too many requests, during each of which others are still served."""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from checks import DRR, ROOT, check, failures  # noqa: E402
from front import FIRST, SECOND, UPSTREAM_KEY, URL, WORK, Server, Upstream, answered, refused, write  # noqa: E402


def it_answers_and_tells():
    server = Server("--samples", "2").ready()
    status, headers, body = server.ask("GET", "/health")
    check("health is ok", (status, body) == (200, {"status": "ok"}), status, body)
    check("liveness is another matter", server.ask("GET", "/health/live")[0] == 200)
    status, headers, body = server.chat("a secret question zebra", headers={"x-request-id": "mine-42"})
    check("a chat is answered and judged", status == 200 and body.get("drr", {}).get("verdict") == "accept", status, body)
    check("it says that agreement judges and how to have a critic", "drr train" in str(body.get("drr")), body)
    check("the client's request id comes back", headers["x-drr-request-id"] == "mine-42", headers)
    check("and goes to the upstream with every attempt", len(Upstream.seen) == 2 and
          all("x-request-id: mine-42" in sent for sent in Upstream.seen), Upstream.seen)
    status, headers, body = server.ask("POST", "/v1/embeddings", {"input": "x"}, headers={"x-request-id": "mine-43"})
    check("with what is passed on too", status == 200 and "x-request-id: mine-43" in Upstream.seen[-1], status, Upstream.seen[-1])
    status, headers, body = server.ask("POST", "/v1/chat/completions", {"model": "fake", "messages": [{"role": "user", "content": "Hi"}],
                                                                        "tools": [{}], "stream": True}, headers={"x-request-id": "mine-44"})
    check("and with streams", status == 200 and "x-request-id: mine-44" in Upstream.seen[-1], status, Upstream.seen[-1])
    status, headers, body = server.chat("busy")
    check("an upstream that is busy for an hour says so once", status == 503 and headers.get_all("Retry-After") == ["3600"], status,
          headers.get_all("Retry-After"), body)
    check("metrics are not there unasked", server.ask("GET", "/metrics")[0] == 404)
    status, headers, _ = server.ask("HEAD", "/health")
    check("HEAD is as GET", status == 200)
    status, headers, _ = server.ask("PUT", "/v1/chat/completions", "{}")
    check("a wrong method is told the right one", status == 405 and "POST" in headers["Allow"], status, headers)
    check("errors have four keys", set(server.ask("GET", "/nowhere")[2]["error"]) == {"message", "type", "param", "code"})
    line = server.said("answer")
    log = "".join(server.lines)
    check("the log has the verdict, in JSON", line and json.loads(line)["verdict"] == "accept", log)
    long = re.findall(r'"\w+":-?\d+\.\d{7,}', log)
    check("times and shares in it end at the millionth", line and '"seconds":' in log and not long, long, log)
    check("and not what was asked or answered", "zebra" not in log and "It is 4" not in log, log)
    check("SIGTERM ends it with 0", server.stop() == 0, "".join(server.lines))
    server = Server("--log-prompts", "--metrics", "--log-file", "log.jsonl")
    until = time.monotonic() + 20
    while time.monotonic() < until and "listening on" not in "".join(server.lines):
        time.sleep(0.02)
    check("beside --log-file stderr has sentences", "listening on http://127.0.0.1:" in "".join(server.lines), "".join(server.lines))
    server.port = int("".join(server.lines).split("http://127.0.0.1:")[1].split()[0])
    server.chat("a secret question zebra")
    check("metrics are there when asked for", b"drr_requests_total" in server.ask("GET", "/metrics")[2])
    server.stop()
    with open(os.path.join(WORK, "log.jsonl")) as file:
        log = file.read()
    check("--log-prompts logs them, into --log-file", "zebra" in log and "It is 4" in log, log)
    check("and nobody else may read that", not os.stat(os.path.join(WORK, "log.jsonl")).st_mode & (stat.S_IRWXG | stat.S_IRWXO))


def a_request_has_its_bounds():
    Upstream.asked.clear()
    server = Server("--samples", "32", "--max-tokens", "640", "--record", "many.db").ready()
    status, _, body = server.chat()
    limits = [sent.get("max_completion_tokens") for sent in Upstream.asked]
    check("as many samples as there can be are asked, answered and recorded", status == 200 and len(body["drr"]["turns"]) == 32 and
          server.chat()[0] == 200, status, body)
    check("they share --max-tokens", limits == [20] * 32, limits)
    server.stop()
    for option in ("--samples", "--max-turns"):
        code, words = refused("--upstream", URL, "--port", "0", option, "33")
        check(f"{option} 33 is refused", code == 2 and option in words and "32" in words, code, words)
    code, words = refused("--upstream", URL, "--port", "0", "--feedback", "step")
    check("--feedback step is refused, and says what to take", code == 1 and "no steps" in words and "score" in words, code, words)
    code, words = refused("--reasoner", URL, "--port", "0")
    check("an address as the reasoner is told to be an upstream", code == 1 and "--upstream" in words, code, words)
    server = Server("--feedback", "score", "--samples", "1").ready()
    check("--feedback score is taken", server.ask("GET", "/props")[2]["policy"]["feedback"] == "score")
    asked = {"model": "fake", "messages": [{"role": "user", "content": "Hi"}], "drr": {"feedback": "step"}}
    status, _, body = server.ask("POST", "/v1/chat/completions", asked)
    check("a request for steps is refused by its field", status == 400 and body["error"]["param"] == "drr.feedback" and
          "no steps" in body["error"]["message"], status, body)
    server.stop()


def what_is_recorded_is_counted():
    server = Server("--samples", "2", "--metrics", "--record", "counted.db").ready()
    asked = {"model": "fake", "messages": [{"role": "user", "content": "What is 3 + 1?"}]}
    check("a judged chat and one that passes through are answered", server.ask("POST", "/v1/chat/completions", asked)[0] == 200 and
          server.ask("POST", "/v1/chat/completions", {**asked, "tools": [{"type": "function"}]})[0] == 200)
    until, text = time.monotonic() + 5, ""
    while time.monotonic() < until and 'result="written"} 2' not in text:
        text = server.ask("GET", "/metrics")[2].decode()
        time.sleep(0.05)
    check("metrics tell what is recorded, and what is lost", 'drr_recorded_turns_total{result="written"} 2\n' in text and
          'drr_recorded_turns_total{result="lost"} 0\n' in text, text)
    server.stop()
    subprocess.run([DRR, "traces", "export", "counted.db", "--out", "counted.jsonl"], cwd=WORK, check=True, stderr=subprocess.DEVNULL)
    with open(os.path.join(WORK, "counted.jsonl")) as file:
        traces = [json.loads(line) for line in file]
    check("what passed through is no trace", [t["question"] for t in traces] == ["What is 3 + 1?"] * 2, traces)


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
    slow = threading.Thread(target=server.chat, args=("slow:1 question",), kwargs={"key": FIRST})
    slow.start()
    time.sleep(0.3)
    with socket.create_connection(("127.0.0.1", server.port), 10) as late:  # is refused by its headers; its body never comes
        late.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 9\r\n\r\n" %
                     FIRST.encode())
        slow.join()
        check("one that was refused takes nobody's place", answered(server, key=FIRST))
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


def loading(*words):
    """A server whose model is not there yet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server("--port", str(port), *words, reasoner="smollm2-135m", DRR_OFFLINE="1")
    server.port = port
    return server


def it_ends_in_order_while_it_loads():
    for form, words in (("json", ("--api-key", FIRST)), ("text", (f"--api-key={FIRST}",))):
        server, status = loading(*words, "--log-format", form), None
        while status is None and server.process.poll() is None:
            try:
                status = server.ask("GET", "/health", seconds=2)[0]
            except OSError:
                time.sleep(0.002)
        if server.process.poll() is not None:
            print("ok - ending while it loads # skip: the model is not in the cache")
            return
        code, said = server.stop(), "".join(server.lines)
        check(f"SIGTERM while the model loads is an orderly end too ({form})", status == 503 and code == 0, status, code, said)
        check("which shows no key, and no command to go on with", FIRST not in said and "run it again" not in said, said)
        check("and nothing that is no line of the log" if form == "json" else "and says that it never was ready",
              all(line.startswith("{") for line in server.lines) if form == "json" else "stopped before it was ready" in said, said)


def it_says_that_it_loads():
    server = loading()
    seen, told = set(), set()
    while not server.is_ready.is_set() and server.process.poll() is None:
        try:
            status, _, body = server.ask("GET", "/health", seconds=2)
            seen.add((status, str(body)))
            told.add(server.ask("GET", "/props", seconds=2)[0])
        except OSError:
            time.sleep(0.002)
    if server.process.poll() is not None:
        print("ok - loading # skip: the model is not in the cache")
        return
    check("while the model loads, health is 503 in llama.cpp's words",
          any(status == 503 and "Loading model" in body and "unavailable_error" in body for status, body in seen), seen)
    check("and its properties, of which some are not there yet, too", 503 in told, told)
    status, _, body = server.ask("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8,
                                                                  "drr": {"samples": 1}}, seconds=60)
    check("an embedded model answers", status == 200 and body["usage"]["completion_tokens"] > 0, status, body)
    server.stop()


def systemd_is_told_when_it_is_ready():
    with open(os.path.join(ROOT, "packaging", "drr.service")) as file:
        text = file.read()
    unit = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"[A-Z]\w+=", line))
    if shutil.which("systemd-analyze"):  # but for the manual, which is not installed here
        path = write("drr.service", re.sub(r"(?m)^Documentation=.*", "", text).replace("/usr/local/bin/drr", DRR), 0o644)
        told = subprocess.run(["systemd-analyze", "verify", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        check("the unit is one", told.returncode == 0 and not told.stdout, told.stdout)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(os.path.join(WORK, "notify"))
        told.settimeout(20)
        server = Server("--config", os.path.join(ROOT, "packaging", "drr.toml"), NOTIFY_SOCKET=told.getsockname()).ready()
        check("the unit waits for what the server tells systemd", unit["Type"] == "notify" and told.recv(100) == b"READY=1", unit)
    check("the settings beside it are settings", b"drr_build_info" in server.ask("GET", "/metrics")[2])
    since = len(server.lines)
    number = re.search(r"kill -(\w+) \$MAINPID", unit["ExecReload"])[1]
    server.process.send_signal(signal.Signals["SIG" + number])
    check("its reload is ours", server.said("reloaded", 5, since), server.lines)
    check("and it waits longer than a drain takes", int(unit["TimeoutStopSec"]) > 30 and server.stop() == 0)


def the_manual_has_every_option():
    words = subprocess.run([DRR, "serve", "--help"], stdout=subprocess.PIPE, text=True).stdout
    with open(os.path.join(ROOT, "packaging", "drr-serve.1")) as file:
        manual = file.read().split(".SH OPTIONS")[1].split(".SH SIGNALS")[0].replace("\\-", "-")
    offered = set(re.findall(r"^  (?:-\w, )?--(\S+)", words, re.M))
    described = set(re.findall(r"^\.B (?:-\w, )?--(\S+)", manual, re.M))
    check("the manual's options are those of --help", offered == described, offered ^ described)
    if shutil.which("man"):
        told = subprocess.run(["man", "--warnings", "-l", os.path.join(ROOT, "packaging", "drr-serve.1")], stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True).stderr
        check("and it is a manual", not told, told)


the_manual_has_every_option()
systemd_is_told_when_it_is_ready()
it_answers_and_tells()
a_request_has_its_bounds()
what_is_recorded_is_counted()
keys_open_it()
pages_of_others_cannot_ask()
settings_come_from_three_places()
abusers_are_cut()
termination_waits_for_what_is_under_way()
it_says_that_it_loads()
it_ends_in_order_while_it_loads()
sys.exit(1 if failures() else 0)
