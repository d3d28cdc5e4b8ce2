#!/usr/bin/env python3
"""Remote reasoners through the installed command, against a server that misbehaves on purpose (fault_server.py): every question
ends answered once or failed with a reason, nothing hangs, and the key is in no file and no message."""
import glob
import json
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from checks import DRR, check, failures, lacking, read_traces, run_drr  # noqa: E402
from fault_server import KEY, Server  # noqa: E402

WORK = tempfile.mkdtemp(prefix="drr-e2e.")
said = []  # all that the command ever wrote


def drr(*words, key=KEY, seconds=60, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    clean.update(environment, **({"DRR_UPSTREAM_API_KEY": key} if key else {}))
    started = time.monotonic()
    done = run_drr(*words, folder=WORK, seconds=seconds, environment=clean)
    done.seconds = time.monotonic() - started
    said.append(done.stdout + done.stderr)
    return done


def questions(name, faults):
    path = os.path.join(WORK, name)
    with open(path, "w") as file:
        for number, fault in enumerate(faults):
            file.write(json.dumps({"id": f"{fault}.{number}", "question": f"Is it so? ({number}) {'fault:' + fault if fault else ''}",
                                   "answer": "yes", "kind": "boolean"}) + "\n")
    return path


def distill(server, data, out, *more, **how):
    return drr("distill", "--reasoner", server.url, "--model", "test-model", "--data", data, "--out", out, "--samples", "1",
               "--turns", "1", "--forced-share", "0", "--max-tokens", "40", *more, **how)


def traces(out):
    path = os.path.join(WORK, out)
    if not os.path.exists(path):
        return []
    drr("traces", "export", path, "--out", path + ".jsonl")
    return read_traces(path + ".jsonl")


def by_fault(list_of):
    return {row["id"].rsplit(".", 1)[0]: row for row in list_of}


def asked(server, fault):
    return sum(n for question, n in server.tries.items() if question.split("fault:")[-1].split()[0] == fault)


# ---- every fault at once

def test_faults():
    recover = ["reset", "stall", "silent", "half", "halfclean", "cut", "badjson", "unavailable", "badgateway", "html",
               "empty", "errorbody", "errorevent", "garbage", "stormdate"]
    answer = ["plain-always", "bytes-always", "length-always", "nodone-always", "think-always", "reasoning-always",
              "echo-always"]
    fail = {"reset-always": "tries", "half-always": "tries", "badjson-always": "not JSON", "errorbody-always": "upstream broke",
            "html-always": "OpenAI-compatible", "context-always": "context size", "drip-always": "10 s",
            "huge-always": "longer than", "hugeline-always": "event of more than", "filter-always": "content filter",
            "stall-always": "10 s", "echoerror-always": "400", "garbage-always": "tries"}
    plain = [""] * 8
    everything = recover + answer + list(fail) + plain
    server = Server()
    data = questions("faults.jsonl", everything)
    done = distill(server, data, "faults.db", "--request-seconds", "10", "--retries", "3", "--width", "64", "--skip-failed",
                   seconds=100)
    server.stop()
    rows = traces("faults.db")
    found = by_fault(rows)
    check("a run through every fault ends well", done.returncode == 0, done.stderr)
    check("within the deadline of its questions", done.seconds < 30, done.seconds)
    check("no question is answered twice", len(rows) == len({row["id"] for row in rows}))
    for fault in recover:
        check(f"{fault}: answered at a later try", found.get(fault, {}).get("answer") == "yes", done.stderr)
    for fault in answer[:2] + answer[3:]:
        check(f"{fault}: answered", found.get(fault, {}).get("answer") == "yes", done.stderr)
    check("plain questions are answered, each once", sum(row["id"].startswith(".") for row in rows) == len(plain)
          and all(n == 1 for question, n in server.tries.items() if "fault" not in question and "(" in question))
    check("an answer cut by the server's limit says so", found["length-always"]["finish"] == "length")
    check("an answer is cut when it is complete", found[""]["finish"] == "answered" and
          found[""]["text"].rstrip() == "It is so, and known.\nAnswer: yes", found[""])
    for fault in ("think-always", "reasoning-always"):
        check(f"{fault}: no thought is in the answer", found[fault]["text"].strip().startswith("It is so") and
              "Perhaps" not in found[fault]["text"], found[fault])
    for fault, words in fail.items():
        lines = [line for line in done.stderr.splitlines() if f"question {fault}." in line and "failed:" in line]
        check(f"{fault}: failed, with a reason", fault not in found and len(lines) == 1 and words in lines[0], lines, words)
    check("every question is answered or failed", len(rows) + sum(" failed: " in line for line in done.stderr.splitlines())
          == len(everything), done.stderr)
    for fault, tries in (("reset", 3), ("cut", 2), ("half-always", 4), ("context-always", 1), ("huge-always", 1)):
        check(f"{fault}: asked {tries} times", asked(server, fault) == tries, asked(server, fault))
    again = Server(port=server.server_address[1])
    distill(again, data, "faults.db", "--request-seconds", "2", "--retries", "0", "--width", "64", "--skip-failed")
    again.stop()
    asked_again = sorted(question.split("fault:")[1].split()[0] for question in again.tries if "(" in question)
    check("the same command asks only what failed", asked_again == sorted(fail), asked_again)


def test_hanging():
    server = Server()
    done = distill(server, questions("hang.jsonl", ["silent-always"] * 64), "hang.db", "--width", "8", "--request-seconds", "1", "--skip-failed")
    server.stop()
    check("a server that answers nobody stops the run", done.returncode == 1 and "the last 32 questions failed" in done.last and
          "within 1 s" in done.last and asked(server, "silent-always") < 64, asked(server, "silent-always"), done.stderr)


# ---- waiting

def test_storm():
    server = Server()
    data = questions("storm.jsonl", ["storm"] * 6 + [""] * 6)
    done = distill(server, data, "storm.db", "--width", "4", "--request-seconds", "60")
    server.stop()
    rows = traces("storm.db")
    check("a storm of 429 is waited out", done.returncode == 0 and len(rows) == 12, done.stderr)
    check("each question of it asked four times", all(n == 4 for q, n in server.tries.items() if "storm" in q), server.tries)
    check("and Retry-After kept: three seconds at least", done.seconds > 3, done.seconds)
    server = Server()
    done = distill(server, questions("hold.jsonl", ["storm"] + [""] * 6), "hold.db", "--width", "1")
    server.stop()
    check("no question is asked while the server wants to be left alone", done.returncode == 0 and server.early == 0 and
          len(traces("hold.db")) == 7, server.early, done.stderr)
    server = Server(streams=False, pause=0.01, room=3)
    done = distill(server, questions("room.jsonl", [""] * 60), "room.db", "--width", "24")
    server.stop()
    check("a server with less room than --width is found out", done.returncode == 0 and len(traces("room.db")) == 60 and
          server.refused < 60, server.refused, done.stderr)
    server = Server()
    done = distill(server, questions("hour.jsonl", ["", "stormhour-always"]), "hour.db", "--width", "1", "--request-seconds", "20")
    server.stop()
    check("an hour's wait is refused", done.returncode == 1 and "3600 s" in done.last and done.seconds < 10, done.stderr)
    server = Server()
    done = distill(server, questions("quota.jsonl", ["quota-always"] * 3), "quota.db")
    server.stop()
    check("a quota that is spent stops the run", done.returncode == 1 and "quota" in done.last and
          asked(server, "quota-always") <= 3, done.stderr)


def interrupted(server, *words):
    """What the command said that Ctrl-C ended while the server was silent; its exit code; how long it took to end."""
    command = ["env", "--default-signal=INT", DRR, *words]  # whoever runs the tests may have it ignored
    run = subprocess.Popen(command, cwd=WORK, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                           env={**os.environ, "DRR_UPSTREAM_API_KEY": KEY})
    while asked(server, "silent-always") == 0 and run.poll() is None:
        time.sleep(0.05)
    time.sleep(0.3)
    run.send_signal(signal.SIGINT)
    started = time.monotonic()
    said.append(run.communicate(timeout=30)[1])
    server.stop()
    return said[-1], run.returncode, time.monotonic() - started


def test_interrupt():
    server = Server()
    data = questions("late.jsonl", ["", "silent-always"])
    words, code, seconds = interrupted(server, "distill", "--reasoner", server.url, "--data", data, "--out", "late.db", "--samples", "1",
                                       "--turns", "1")
    check("Ctrl-C ends a wait at once", code == 130 and seconds < 3, words)
    check("and keeps what was answered", len(traces("late.db")) == 1)
    question = "fault:silent-always postgres://me:p4ss@w0rd@host/db?sslpassword=s3cret&user=me https://you:t0ken@host:8080/v1 http://h/a:b@c"
    server = Server()
    words, code, seconds = interrupted(server, "reason", "--reasoner", server.url, "--kind", "text", question)
    shown = "postgres://me:*********@host/db?sslpassword=******&user=me https://you:*****@host:8080/v1 http://h/a:b@c"
    check("no password of a URL is in the command that is shown to go on with", code == 130 and "To go on" in words and
          not any(secret in words for secret in ("p4ss", "w0rd", "s3cret", "t0ken")), words)
    check("all else is", f"{DRR} reason --reasoner {server.url} --kind text 'fault:silent-always {shown}'" in words, words)


# ---- budgets

def test_budget():
    server = Server(streams=False)  # whole answers, so that the server's account is what was really used
    data = questions("many.jsonl", [""] * 60)
    done = distill(server, data, "budget.db", "--max-tokens-total", "2500", "--width", "8")
    n = len(traces("budget.db"))
    check("a token budget stops the run with one sentence", done.returncode == 1 and "--max-tokens-total" in done.last, done.stderr)
    check("within the budget, and not far from it", 0 < n < 60 and 2500 - 400 < server.tokens <= 2500, n, server.tokens)
    done = distill(server, data, "budget.db", "--width", "8")
    rows = traces("budget.db")
    check("a larger one goes on", done.returncode == 0 and len(rows) == 60 == len({row["id"] for row in rows}), done.stderr)
    again = [q for q, count in server.tries.items() if "(" in q and count != 1]
    check("and asks nothing again", not again, again)
    done = distill(server, data, "money.db", "--max-money", "0.002", "--price-prompt", "1", "--price-completion", "4")
    check("so does a budget of money", done.returncode == 1 and "--max-money" in done.last and 0 < len(traces("money.db")) < 60,
          done.stderr)
    done = distill(server, data, "price.db", "--max-money", "1")
    check("which needs prices", done.returncode == 1 and "--price-prompt" in done.last, done.stderr)
    server.stop()


# ---- keys

def test_keys():
    server = Server()
    ask = ("reason", "Is it so?", "--reasoner", server.url, "--model", "test-model")
    done = drr(*ask, key=None)
    check("without a key: told where to put it", done.returncode == 1 and "DRR_UPSTREAM_API_KEY" in done.last and "401" in done.last, done.stderr)
    wrong = "wrong-key-0123456789"
    done = drr(*ask, key=wrong)
    check("a wrong key stops at once and is not shown", done.returncode == 1 and "does not accept" in done.last and
          wrong not in done.stderr and sum(server.tries.values()) == 2, done.stderr)
    done = drr(*ask, key=None, OPENAI_API_KEY=KEY)
    check("OPENAI_API_KEY is for OpenAI alone", done.returncode == 1 and f"Bearer {KEY}" not in server.keys_seen, done.stderr)
    path = os.path.join(WORK, "key")
    with open(path, "w") as file:
        file.write(KEY + "\n")
    for mode, good in ((0o600, True), (0o400, True), (0o640, False), (0o604, False), (0o644, False)):
        os.chmod(path, mode)
        done = drr(*ask, "--api-key-file", path, key=None)
        check(f"a key file of mode {mode:03o} is {'read' if good else 'refused'}",
              done.returncode == 0 if good else done.returncode == 1 and "chmod 600" in done.last, done.stderr)
    os.chmod(path, 0o600)
    for text, words in (("", "empty"), ("short", "5 characters"), ("two words here", "byte 4")):
        with open(path, "w") as file:
            file.write(text)
        done = drr(*ask, "--api-key-file", path, key=None)
        check(f"a key file with \"{text}\" is refused", done.returncode == 1 and words in done.last, done.stderr)
    secret = server.url.replace("://", "://user:hunter2secret@")
    done = drr("reason", "Is it so?", "--reasoner", secret, "--model", "test-model")
    check("an address with a password is refused and not repeated", done.returncode == 1 and "user name" in done.last and
          "hunter2secret" not in done.stderr, done.stderr)
    server.stop()
    server = Server()
    data = questions("expired.jsonl", ["", "", "unauthorized-always", "", ""])
    done = distill(server, data, "expired.db", "--width", "1")
    server.stop()
    check("a key that expires stops the run, keeping what is done", done.returncode == 1 and "does not accept" in done.last and
          len(traces("expired.db")) == 2, done.stderr)


# ---- servers of different ability

def test_abilities():
    able = Server(logprobs=True, grammar=True)
    done = distill(able, questions("able.jsonl", [""]), "able.db", "--grammar")
    row = (traces("able.db") or [{}])[0]
    check("log-probabilities are used where they come", row.get("stats", {}).get("n", 0) >= 8 and
          abs(row["stats"]["mean"] + 0.25) < 1e-6 and abs(row["stats"]["answer_margin"] - 1.5) < 1e-6, row, done.stderr)
    check("what is not known of them stays unknown", row["stats"]["entropy_mean"] is None, row)
    check("a grammar is sent to who obeys one", able.bodies[-1].get("grammar", "").startswith("root"), able.bodies[-1])
    check("one probe, then the question", len(able.bodies) == 2, able.bodies)
    able.stop()
    plain = Server()
    distill(plain, questions("plain.jsonl", [""]), "plain.db", "--grammar")
    check("and to nobody else", "grammar" not in plain.bodies[-1] and "logprobs" not in plain.bodies[-1], plain.bodies[-1])
    plain.stop()
    strict = Server(refuses=("grammar", "logprobs", "seed", "max_tokens", "temperature", "top_p", "stream_options"))
    done = distill(strict, questions("strict.jsonl", [""] * 3), "strict.db")
    check("a server that refuses every option is still asked", done.returncode == 0 and len(traces("strict.db")) == 3, done.stderr)
    check("with none of them", set(strict.bodies[-1]) == {"model", "messages", "stream", "max_completion_tokens"}, strict.bodies[-1])
    check("and each question once", all(n == 1 for q, n in strict.tries.items() if "(" in q), strict.tries)
    strict.stop()
    whole = Server(streams=False)
    done = distill(whole, questions("whole.jsonl", [""] * 3), "whole.db")
    check("a server that does not stream is good as well", done.returncode == 0 and len(traces("whole.db")) == 3, done.stderr)
    whole.stop()
    two = Server(models=("one-model", "other-model"), key=None)
    done = drr("reason", "Is it so?", "--reasoner", two.url, key=None)
    check("of two models one has to be named", done.returncode == 1 and "one-model, other-model" in done.last, done.stderr)
    two.stop()
    one = Server(key=None)
    done = drr("reason", "Is it so?", "--reasoner", one.url + "/", key=None)
    check("a single model need not be", done.returncode == 0 and one.bodies[-1]["model"] == "test-model", done.stderr)
    one.stop()
    slow = Server(loading=2)
    done = drr("reason", "Is it so?", "--reasoner", slow.url)
    check("a server that still loads its model is waited for", done.returncode == 0 and "not ready (503)" in done.stderr, done.stderr)
    slow.stop()
    never = Server(loading=1000)
    done = drr("reason", "Is it so?", "--reasoner", never.url, "--retries", "2")
    check("but not for ever", done.returncode == 1 and "after 3 tries" in done.last and done.seconds < 10, done.stderr)
    never.stop()


def test_thoughts():
    for streams in (True, False):
        server = Server(logprobs=True, streams=streams)
        out = f"thoughts.{streams}.db"
        done = distill(server, questions("thoughts.jsonl", ["", "opened-always", "unopened-always"]), out)
        server.stop()
        stats = {name: row["stats"] for name, row in by_fault(traces(out)).items()}
        check(f"log-probabilities of thoughts are not the answer's, {'streamed' if streams else 'whole'}", len(stats) == 3 and
              stats["opened-always"] == stats["unopened-always"] == stats[""] and abs(stats[""]["mean"] + 0.25) < 1e-6 and
              stats[""]["n"] >= 8, stats, done.stderr)


def test_seconds():
    for fault, when in (("ponder", "thinks"), ("silent", "has not begun"), ("later", "is to be asked again")):
        server = Server()
        done = drr("reason", "--reasoner", server.url, "--json", "--max-seconds", "1", f"Is it so? fault:{fault}-always", seconds=20)
        server.stop()
        check(f"--max-seconds ends a question while the server {when}", done.returncode == 0 and
              [turn["finish"] for turn in done.json.get("turns", [])] == ["time"] and 1 <= done.json["seconds"] < 3, done.stdout, done.stderr)


def test_doctor():
    server = Server()
    done = drr("doctor", "--json", "--reasoner", server.url, DRR_CACHE=WORK)
    found = json.loads(done.stdout)
    check("the doctor asks a server what it can do", done.returncode == 0 and found["server"]["verdict"] == "answers" and
          found["server"]["id"].startswith("test-model@") and "log-probabilities" in found["server"]["can"], done.stdout, done.stderr)
    done = drr("doctor", "--json", "--reasoner", server.url, key="sk-wrong-key-123456", DRR_CACHE=WORK)
    found = json.loads(done.stdout)
    check("a key that is refused is a finding", done.returncode == 1 and found["server"]["verdict"] == "WRONG" and
          len(found["problems"]) == 1 and "does not accept" in found["problems"][0], done.stdout, done.stderr)
    url = server.url
    server.stop()
    done = drr("doctor", "--json", "--reasoner", url, "--model", "test-model", "--retries", "0", DRR_CACHE=WORK)
    check("and so is a server that is not there", done.returncode == 1 and done.seconds < 20 and
          len(json.loads(done.stdout)["problems"]) == 1, done.stdout, done.stderr)


def test_flight():
    server = Server(streams=False, pause=0.02)
    done = distill(server, questions("flight.jsonl", [""] * 96), "flight.db", "--width", "24")
    rows = traces("flight.db")
    check("as many are in flight as --width says", done.returncode == 0 and len(rows) == 96 and 20 <= server.most_at_once <= 24,
          server.most_at_once, done.stderr)
    check("the reasoner is known by model and host", rows[0]["reasoner"] == "test-model@" + server.url[7:-3], rows[0]["reasoner"])
    server.stop()
    whole = Server(streams=False)
    distill(whole, questions("reuse.jsonl", [""] * 40), "reuse.db", "--width", "4")
    check("connections are used again", len(whole.bodies) == 41 and len(whole.connections) <= 6, len(whole.connections))
    whole.stop()


# ---- addresses

def test_addresses():
    cases = [("http://127.0.0.1:9/v1", "127.0.0.1:9"), ("http://no-such-host.invalid/v1", "no-such-host"),
             ("http://", "address"), ("https://127.0.0.1:9/v1?key=abc", "query")]
    for address, words in cases:
        done = drr("reason", "Is it so?", "--reasoner", address, "--model", "m", "--request-seconds", "20")
        check(f"{address}: one sentence, at once", done.returncode == 1 and words in done.last and done.seconds < 15, done.stderr)
    server = Server()
    done = distill(server, questions("away.jsonl", ["redirect-always"]), "away.db")
    check("a redirect is not followed", done.returncode == 1 and "302" in done.last, done.stderr)
    done = drr("reason", "Is it so?", "--reasoner", server.url, "--model", "m", "--width", "0", "--retries", "2000")
    check("a wild option is refused", done.returncode == 2, done.stderr)
    server.stop()


def certificate():
    """A PEM with its key beside it (.key); None where it cannot be made."""
    pem = os.path.join(WORK, "cert.pem")
    made = subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", pem + ".key", "-out", pem,
                           "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
                          stderr=subprocess.DEVNULL) if shutil.which("openssl") else None
    return pem if made and made.returncode == 0 else None


def test_tls():
    pem = certificate()
    if not pem:
        print("skip - https (openssl is needed to make a certificate)")
        return
    server = Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, pem + ".key")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    address = server.url.replace("http:", "https:")
    ask = ("reason", "Is it so?", "--reasoner", address, "--model", "test-model", "--request-seconds", "20")
    done = drr(*ask)
    check("a certificate that nobody vouches for is refused at once", done.returncode == 1 and "--ca-file" in done.last and
          not server.bodies, done.stderr)
    done = drr(*ask, "--ca-file", pem)
    check("and taken when it is named", done.returncode == 0 and len(server.bodies) == 2, done.stderr)
    server.stop()


def test_http2():
    """nghttpx speaks HTTP/2 to the command and HTTP/1.1 to the server that misbehaves."""
    pem = certificate()
    if not pem or not shutil.which("nghttpx"):
        print("skip - HTTP/2 (openssl and nghttpx are needed: tools/setup test-packages)")
        return
    server = Server(pause=0.01)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = os.path.join(WORK, "h2.log")
    proxy = subprocess.Popen(["nghttpx", "--conf=/dev/null", f"--frontend=127.0.0.1,{port}", "--workers=1",
                              f"--backend=127.0.0.1,{server.server_address[1]}", f"--accesslog-file={log}",
                              "--accesslog-format=$alpn $remote_port $status", "--errorlog-file=/dev/null", pem + ".key", pem], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        data = questions("h2.jsonl", [""] * 40 + ["reset", "unavailable"])
        done = drr("distill", "--reasoner", f"https://127.0.0.1:{port}/v1", "--model", "test-model", "--ca-file", pem, "--data", data,
                   "--out", "h2.db", "--samples", "1", "--turns", "1", "--forced-share", "0", "--width", "8")
        rows = traces("h2.db")
        check("over HTTP/2 every question is answered", done.returncode == 0 and len(rows) == 42, done.stderr)
        check("and cut where it is complete", sum(row["finish"] == "answered" for row in rows) >= 40, rows[:1])
        check("which the run says", "HTTP/2" in done.stderr, done.stderr)
        time.sleep(0.2)  # the log's last lines
        with open(log) as file:
            lines = [line.split() for line in file]
        asked_by_2 = [port for alpn, port, _ in lines if alpn == "h2"]
        check("all on one connection, cut answers too", len(asked_by_2) == len(lines) >= 44 and len(set(asked_by_2)) <= 2,
              len(lines), len(set(asked_by_2)), lines[:3])
    finally:
        proxy.terminate()
        proxy.wait()
        server.stop()


def test_no_key_anywhere():
    leaks = [path for path in glob.glob(os.path.join(WORK, "**"), recursive=True)
             if os.path.isfile(path) and KEY.encode() in open(path, "rb").read()]
    check("the key is in no file", not leaks, leaks)
    check("and in nothing that was said", not any(KEY in text for text in said), [t for t in said if KEY in t][:1])
    rows = sqlite3.connect(os.path.join(WORK, "faults.db")).execute("select text from traces").fetchall()
    check("a server that repeats it leaves asterisks", any("*" * len(KEY) in text for text, in rows))


def main():
    why = lacking()
    if why:
        print(why)
        return 77
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        os.environ[name] = "http://127.0.0.1:9"  # must not matter for a server on this machine
    tests = [test_faults, test_hanging, test_storm, test_interrupt, test_budget, test_keys, test_abilities, test_thoughts, test_seconds,
             test_doctor, test_flight, test_addresses, test_tls, test_http2, test_no_key_anywhere]
    wanted = sys.argv[1:]
    try:
        for test in tests:
            if not wanted or test.__name__ in wanted:
                test()
    finally:
        if os.environ.get("DRR_KEEP"):
            print(WORK)
        else:
            shutil.rmtree(WORK, ignore_errors=True)
    return 1 if failures() else 0


if __name__ == "__main__":
    sys.exit(main())
