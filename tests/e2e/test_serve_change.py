#!/usr/bin/env python3
"""drr serve while it runs: SIGHUP changes policy, keys, certificates and the critic without dropping a request, changes nothing where
anything is wrong, and names what needs a restart. And TLS itself."""
import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from checks import check, failures  # noqa: E402
from front import FIRST, SECOND, UPSTREAM_KEY, URL, WORK, Server, Upstream, answered, refused, write  # noqa: E402
from serving import make_critic  # noqa: E402


def make_certificate(name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", name + ".key", "-out", name + ".cert"],
                   cwd=WORK, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def shown(server):
    return ssl.get_server_certificate(("127.0.0.1", server.port)).strip()


def another_certificate_is_taken(server):
    """On SIGHUP, with a connection open and a request under way; a pair that cannot be used changes nothing."""
    make_certificate("two")
    certificates = [open(os.path.join(WORK, name + ".cert")).read().strip() for name in ("one", "two")]
    before, got = shown(server), []
    kept = server.connect()
    kept.request("GET", "/health")
    kept.getresponse().read()
    slow = threading.Thread(target=lambda: got.append(server.chat("slow:1.5 question")[0]))
    slow.start()
    time.sleep(0.4)
    for end, name in (("cert", "cert.pem"), ("key", "key.pem")):
        shutil.copy(os.path.join(WORK, "two." + end), os.path.join(WORK, name))
    since = len(server.lines)
    server.process.send_signal(signal.SIGHUP)
    check("SIGHUP takes another certificate", server.said("reloaded", 5, since) and [before, shown(server)] == certificates,
          "".join(server.lines[since:]))
    kept.request("GET", "/health")
    check("a connection that began with the old one goes on", kept.getresponse().status == 200)
    kept.close()
    slow.join()
    check("and so does a request under way", got == [200], got)
    server.context = ssl.create_default_context(cafile=os.path.join(WORK, "cert.pem"))
    check("a client that trusts the new one is answered", answered(server))
    shutil.copy(os.path.join(WORK, "one.key"), os.path.join(WORK, "key.pem"))
    since = len(server.lines)
    server.process.send_signal(signal.SIGHUP)
    until = time.monotonic() + 5
    while time.monotonic() < until and "not reloaded" not in "".join(server.lines[since:]):
        time.sleep(0.02)
    said = "".join(server.lines[since:])
    check("a key of another certificate is not taken, and the log says why", "not reloaded" in said and "key.pem" in said and
          shown(server) == certificates[1] and answered(server), said)


def tls_keeps_it_private():
    if not shutil.which("openssl"):
        print("ok - TLS # skip: openssl is not there")
        return
    make_certificate("one")
    for end, name in (("cert", "cert.pem"), ("key", "key.pem")):
        shutil.copy(os.path.join(WORK, "one." + end), os.path.join(WORK, name))
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
    another_certificate_is_taken(server)
    server.stop()
    code, words = refused("--upstream", URL, "--port", "0", "--tls-cert", "cert.pem", "--tls-key", "cert.pem")
    check("a key that is none is refused", code == 1 and "cert.pem" in words, code, words)
    code, words = refused("--upstream", URL, "--port", "0", "--tls-cert", "cert.pem")
    check("a certificate alone is refused", code == 1 and "two files" in words, code, words)


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
    write("live.toml", "max-turns = 5\nsamples = 1\nmax-body = 5000\ntls-cert = \"none.pem\"\n")
    server.process.send_signal(signal.SIGHUP)
    server.said("reloaded", 5, since)
    said = "".join(server.lines[since:])
    check("what needs a restart is named", "another max-body needs a restart" in said and "to speak TLS" in said and
          said.count("needs a restart") == 2, said)
    since = len(server.lines)
    write("live.toml", "max-turns = lots\n")
    server.process.send_signal(signal.SIGHUP)
    until = time.monotonic() + 5
    while time.monotonic() < until and "not reloaded" not in "".join(server.lines[since:]):
        time.sleep(0.02)
    check("a broken file changes nothing, and the log says so", "not reloaded" in "".join(server.lines[since:]) and
          server.ask("GET", "/props", key=SECOND)[2]["policy"]["max_turns"] == 5, "".join(server.lines[since:]))
    server.stop()


def what_is_changed_in_vain_is_named():
    """What needs a restart, though its setting is the same or is the command's own; and no key."""
    key, config = write("upstream.key", UPSTREAM_KEY + "\n"), write("vain.toml", "samples = 1\n")
    server = Server("--config", config, "--upstream-key-file", key).ready()

    def reload():
        since = len(server.lines)
        server.process.send_signal(signal.SIGHUP)
        server.said("reloaded", 5, since)
        return "".join(server.lines[since:])

    said = reload()
    check("with the same key nothing is named", "restart" not in said and "reloaded" in said, said)
    write("upstream.key", "sk-another-upstream-key\n")
    said = reload()
    check("another key in the same file is", said.count("needs a restart") == 1 and "another key in upstream-key-file" in said, said)
    Upstream.seen.clear()
    check("and the old one goes on", answered(server) and UPSTREAM_KEY in Upstream.seen[-1] and "another" not in Upstream.seen[-1], Upstream.seen)
    os.remove(key)
    said = reload()
    check("one that is gone is told of", "reloaded" in said and "the old upstream key stays" in said and "upstream.key" in said, said)
    write("upstream.key", UPSTREAM_KEY)
    write("vain.toml", f"samples = 1\nlog-file = \"{WORK}/vain.jsonl\"\nlog-format = \"text\"\n")
    said = reload()
    check("another log file and format are named", said.count("needs a restart") == 2 and "another log-file" in said and
          "another log-format" in said and not os.path.exists(os.path.join(WORK, "vain.jsonl")), said)
    server.stop()
    log = "".join(server.lines)
    check("no key is in the log", UPSTREAM_KEY not in log and "sk-another" not in log, log)


def the_log_file_changes_under_its_number():
    """A rotated log is opened anew while clients ask: no line is lost, and none can go where its old descriptor's number went."""
    log = os.path.join(WORK, "rotated.jsonl")
    server = Server("--samples", "1", "--log-file", log)
    until = time.monotonic() + 20
    while time.monotonic() < until and "listening on" not in "".join(server.lines):
        time.sleep(0.02)
    server.port = int("".join(server.lines).split("http://127.0.0.1:")[1].split()[0])
    folder, ends, n_asked, wrong = f"/proc/{server.process.pid}/fd", threading.Event(), [0] * 4, []

    def numbers():
        return [number for number in os.listdir(folder) if os.path.realpath(os.path.join(folder, number)).startswith(log)]

    def ask_on(client):
        while not ends.is_set():
            n_asked[client] += 1
            if not answered(server):
                wrong.append(client)

    before, after = numbers(), []
    clients = [threading.Thread(target=ask_on, args=(client,), daemon=True) for client in range(4)]
    for client in clients:
        client.start()
    files = [log]
    for turn in range(5):
        files.append(f"{log}.{turn}")
        os.rename(log, files[-1])
        server.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 5
        while time.monotonic() < until and not (os.path.exists(log) and os.path.getsize(log)):
            time.sleep(0.01)
        after.append(numbers())
        time.sleep(0.2)
    ends.set()
    for client in clients:
        client.join()
    server.stop()
    lines = [line for path in files for line in open(path)]
    n_chats = sum('"event":"request"' in line and "/chat/" in line for line in lines)
    check("SIGHUP opens the log anew under the number that it had", after == [before] * 5 and len(before) == 1, before, after)
    check("each request is in it or in what it was before, and was answered", n_chats == sum(n_asked) > 20 and not wrong and
          all(line.startswith("{") and line.endswith("}\n") for line in lines), n_chats, n_asked, wrong)


def another_key_closes_the_pages_texts():
    keys = write("page.keys", FIRST + "\n")
    server = Server("--samples", "2", "--api-key-file", keys).ready()

    def recent(key, word):
        page = server.ask("GET", "/drr/traces", key=key)[2]
        return page.get("texts"), word in str(page), page

    def reload(text):
        since = len(server.lines)
        write("page.keys", text)
        server.process.send_signal(signal.SIGHUP)
        server.said("reloaded", 5, since)

    check("with one key the page has texts", answered(server, text="zebra?", key=FIRST) and recent(FIRST, "zebra")[:2] == (True, True))
    reload(f"{FIRST}\n{SECOND}\n")
    check("a second key that comes by SIGHUP reads none of those before it", recent(SECOND, "zebra")[:2] == (False, False),
          recent(SECOND, "zebra")[2])
    answered(server, text="camel?", key=FIRST)
    texts, found, page = recent(SECOND, "camel")
    check("nor of those after", not texts and not found and len(page["data"]) == 1, page)
    reload(FIRST + "\n")
    check("with one key again there are texts again", answered(server, text="llama?", key=FIRST) and
          recent(FIRST, "llama")[:2] == (True, True) and not recent(FIRST, "camel")[1])
    server.stop()


def a_request_keeps_its_critic(first, second):
    live = os.path.join(WORK, "kept.gguf")
    shutil.copy(first, live)
    server, got = Server("--critic", live, "--max-turns", "3", "--threshold", "1").ready(), []
    slow = threading.Thread(target=lambda: got.append(server.chat("slow:1 question")))
    slow.start()
    time.sleep(1.5)  # the first turn is judged, the second is being written
    names = [server.ask("GET", "/props")[2]["critic"]["dm"]]
    shutil.copy(second, live + ".new")
    os.rename(live + ".new", live)
    since = len(server.lines)
    server.process.send_signal(signal.SIGHUP)
    reloaded = server.said("reloaded", 10, since)
    names.append(server.ask("GET", "/props")[2]["critic"]["dm"])
    after = server.chat()
    slow.join()
    status, headers, body = got[0]
    check("a request that began before another critic came is judged by its own to the end", reloaded and names[0] != names[1] and
          status == 200 and len(body["drr"]["turns"]) == 3 and body["drr"]["dm"] == headers["x-drr-dm"] == names[0], names, body)
    check("and the next one by the other", after[0] == 200 and after[2]["drr"]["dm"] == names[1], names, after[2])
    server.stop()


def another_critic_takes_over_under_load(first, second):
    live = os.path.join(WORK, "live.gguf")
    shutil.copy(first, live)
    keys = write("swap.keys", FIRST + "\n")
    server = Server("--critic", live, "--max-turns", "2", "--threshold", "0", "--api-key-file", keys).ready()
    check("one answer is judged", answered(server, key=FIRST) and server.ask("GET", "/props", key=FIRST)[2]["drift"]["scores"]["n"] == 1)
    server.process.send_signal(signal.SIGHUP)
    reloaded = server.said("reloaded", 10)
    kept = server.ask("GET", "/props", key=FIRST)[2]["drift"]["scores"]["n"]
    check("what is known of its scores stays where the file is the same", reloaded and kept == 1, kept)
    seen, ends = [], threading.Event()

    def ask_on():
        while not ends.is_set():
            try:
                status, _, body = server.chat(key=FIRST)
                seen.append((status, body.get("drr", {}).get("dm"), {turn["verdict"] for turn in body["drr"]["turns"]}))
            except (OSError, KeyError, http.client.HTTPException) as error:
                seen.append(("broken", str(error), set()))

    clients = [threading.Thread(target=ask_on, daemon=True) for _ in range(8)]  # none holds up a test that fails
    for client in clients:
        client.start()
    names = [server.ask("GET", "/props", key=FIRST)[2]["critic"]["dm"]]
    for path in (second, first, second):
        shutil.copy(path, live + ".new")
        os.rename(live + ".new", live)
        since = len(server.lines)
        server.process.send_signal(signal.SIGHUP)
        check("another critic is taken on SIGHUP", server.said("reloaded", 10, since), "".join(server.lines[-5:]))
        names.append(server.ask("GET", "/props", key=FIRST)[2]["critic"]["dm"])
        time.sleep(0.3)
    shutil.copy(first, live + ".new")
    os.rename(live + ".new", live)
    write("swap.keys", "short\n")
    since = len(server.lines)
    server.process.send_signal(signal.SIGHUP)
    until = time.monotonic() + 5
    while time.monotonic() < until and "not reloaded" not in "".join(server.lines[since:]):
        time.sleep(0.02)
    now = server.ask("GET", "/props", key=FIRST)[2]["critic"]["dm"]
    check("a key that cannot be leaves the critic as it was too", now == names[-1] and "shorter than" in "".join(server.lines[since:]),
          now, names, "".join(server.lines[since:]))
    write("swap.keys", FIRST + "\n")
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
    check("a file that is no critic changes nothing", server.ask("GET", "/props", key=FIRST)[2]["critic"]["dm"] == names[3] and
          answered(server, key=FIRST))
    server.stop()


tls_keeps_it_private()
hangup_changes_it_while_it_runs()
what_is_changed_in_vain_is_named()
the_log_file_changes_under_its_number()
another_key_closes_the_pages_texts()
SIZES = {"layers": 1, "width": 16, "heads": 2, "positions": 32}
CRITICS = [make_critic(os.path.join(WORK, name), ff=ff, **SIZES) for name, ff in (("one", 16), ("two", 24))]
a_request_keeps_its_critic(*CRITICS)
another_critic_takes_over_under_load(*CRITICS)
sys.exit(1 if failures() else 0)
