#!/usr/bin/env python3
"""Many workers on one store in PostgreSQL: a real server, which is restarted, and workers that are killed. At the end every
sample is done once, and the traces are those of one worker alone. The reasoner is a server here that answers by what it is
asked, so that every worker gets the same words."""
import hashlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from checks import DRR, check, failures, read_traces, run_drr  # noqa: E402
import postgres  # noqa: E402

WORK = tempfile.mkdtemp(prefix="drr-e2e.")
os.chmod(WORK, 0o711)  # the database may run as another user
QUESTIONS, SAMPLES, TURNS, WORKERS, LEASE = 120, 3, 3, 8, 3
SETTINGS = ["--model", "made", "--samples", str(SAMPLES), "--turns", str(TURNS), "--max-tokens", "40"]


# ---- the reasoner

class Answers(http.server.ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 256

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pause, self.deadly, self.failing, self.processes = 0.25, None, None, {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, *_):
        pass  # killed workers leave in the middle


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.reply(200, {"object": "list", "data": [{"id": "made", "object": "model"}]})

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = "\n".join(m["content"] for m in body["messages"] if m["role"] != "system")
        question = next((m["content"] for m in reversed(body["messages"]) if "Is it so" in m["content"]), "")
        if server.deadly and server.deadly in question:  # whoever asks this dies: its key says who asks
            process = server.processes.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
            if process:
                process.kill()
                return
        time.sleep(server.pause if question else 0)
        if server.failing and server.failing in question:
            return self.reply(400, {"error": {"message": "this question is not to be asked", "type": "test"}})
        number = int(hashlib.sha256(asked.encode()).hexdigest(), 16)
        answer = "yes" if number % 100 < 60 else "no" if number % 100 < 90 else "perhaps"
        text = f"Thought {number % 100000}.\nAnswer: {answer}"
        self.reply(200, {"id": "c", "object": "chat.completion", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": len(asked) // 4, "completion_tokens": 12}})


# ---- the command

def environment(key):
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return {**clean, "DRR_UPSTREAM_API_KEY": key}


def drr(*words, seconds=120):
    return run_drr(*words, folder=WORK, seconds=seconds, environment=environment("reader-of-it-all"))


started = 0


def start(answers, *words):
    """A worker with a key of its own, so that the reasoner knows it."""
    global started
    started += 1
    key = f"key-of-worker-{started:03}"
    with open(os.path.join(WORK, key + ".log"), "w") as log:
        process = subprocess.Popen([DRR, "distill", "--reasoner", answers.url, "--model", "made", "--width", "4", "--lease", str(LEASE),
                                    *words], cwd=WORK, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment(key))
    answers.processes[key] = process
    process.log = os.path.join(WORK, key + ".log")
    return process


def words_of(process):
    with open(process.log) as log:
        return log.read()[-600:]


def questions(name, count, marked=()):
    path = os.path.join(WORK, name)
    with open(path, "w") as file:
        for n in range(count):
            mark = marked[n] if n < len(marked) else ""
            file.write(json.dumps({"id": f"q{n:03}", "question": f"Is it so? (No. {n}) {mark}", "answer": "yes" if n % 3 else "no",
                                   "kind": "boolean"}) + "\n")
    return path


def export(store, name):
    """The traces without what two runs may differ in."""
    done = drr("traces", "export", store, "--out", name)
    if done.returncode:
        return [done.stderr]
    return [{k: v for k, v in trace.items() if k != "seconds"} for trace in read_traces(os.path.join(WORK, name))]


def fleet(url):
    return json.loads(drr("traces", "stats", url, "--json").stdout or "{}").get("fleet", {})


def alive(workers):
    return [w for w in workers if w.poll() is None]


# ---- tests

def test_storm(server, answers):
    """Eight workers, one killed every second, the database restarted once."""
    data = questions("many.jsonl", QUESTIONS)
    alone = drr("distill", "--reasoner", answers.url, "--data", data, "--out", "alone.db", *SETTINGS, "--width", "64")
    check("one worker alone", alone.returncode == 0, alone.stderr)
    workers = [start(answers, "--data", data, "--store", server.url, *SETTINGS)]
    for _ in range(100):
        if server.sql("select count(*) from pg_tables where tablename='drr_units'") == "1" and \
                server.sql("select count(*) from drr_units") == str(QUESTIONS * SAMPLES):
            break
        time.sleep(.1)
    workers += [start(answers, "--worker", "--store", server.url) for _ in range(WORKERS - 1)]
    watch = subprocess.Popen([DRR, "traces", "stats", server.url, "--watch", "--every", "0.5", "--json"], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True)
    began, killed, restarted = time.monotonic(), [], False
    while time.monotonic() - began < 100:
        time.sleep(1)
        here = alive(workers)
        if not here:
            break
        if time.monotonic() - began > 4 and not restarted:
            server.restart("immediate", pause=1)
            restarted = True
        elif len(killed) < 6:
            here[len(killed) % len(here)].kill()
            killed.append(here[len(killed) % len(here)])
            workers.append(start(answers, "--worker", "--store", server.url))
    check(f"workers were killed ({len(killed)}) and the database restarted while they worked", restarted and len(killed) >= 5)
    ends = [w for w in workers if w not in killed]
    check("all workers that were not killed end well", all(w.poll() == 0 for w in ends),
          *[f"{w.poll()}: {words_of(w)}" for w in ends if w.poll() != 0][:2])
    left = fleet(server.url)
    check("every sample is done", left.get("done") == QUESTIONS * SAMPLES and not left.get("todo") and not left.get("held") and
          not left.get("aside") and not left.get("failed"), left)
    check("every sample was marked as done once", sum(w["samples"] for w in left.get("workers", [])) == QUESTIONS * SAMPLES,
          left.get("workers"))
    ours, theirs = export(server.url, "storm.jsonl"), export("alone.db", "alone.jsonl")
    check(f"the {len(theirs)} traces are those of one worker alone", ours == theirs and len(theirs) > QUESTIONS * SAMPLES,
          len(ours), ours[:1], theirs[:1])
    try:
        seen = [json.loads(line) for line in watch.communicate(timeout=20)[0].splitlines()]
    except subprocess.TimeoutExpired:
        watch.kill()
        seen = []
    check("stats --watch showed the fleet to the end", seen and seen[-1]["done"] == QUESTIONS * SAMPLES and len(seen) > 3 and
          max(len(s["workers"]) for s in seen) >= WORKERS, seen[-1:])
    return data


def test_reading(server):
    """What can be asked of a file can be asked of a database, with the same answer."""
    for words in (["ls", "--label", "reject", "--turn", "1", "--n", "7"], ["show", "--id", "q003", "--n", "2"], ["ls", "--task", "many",
                  "--n", "0"], ["ls", "--reasoner", "nobody"]):
        a, b = drr("traces", words[0], server.url, *words[1:]), drr("traces", words[0], "alone.db", *words[1:])
        strip = lambda text: [line for line in text.splitlines() if "time:" not in line]  # noqa: E731
        check(f"traces {' '.join(words)}", a.returncode == 0 and strip(a.stdout) == strip(b.stdout), a.stdout[:300], b.stdout[:300])
    a, b = (json.loads(drr("traces", "stats", name, "--json").stdout) for name in (server.url, "alone.db"))
    for counts in (a, b):
        counts.pop("seconds")
    check("traces stats counts alike", {k: a[k] for k in b} == b, a, b)
    again = drr("traces", "import", "alone.jsonl", "--out", server.url)
    check("importing what is there adds nothing", "0 traces added" in again.stderr, again.stderr)


def test_deadly(server, answers):
    """A question that kills whoever asks it: three workers die, then it is set aside and listed; all others are done."""
    data = questions("deadly.jsonl", 30, ["deadly"])
    answers.deadly, answers.pause = "deadly", 0.02
    one = ["--model", "made", "--samples", "1", "--turns", "2", "--max-tokens", "40"]
    workers = [start(answers, "--data", data, "--store", server.url, *one)]
    began = time.monotonic()
    while time.monotonic() - began < 60:
        if workers[-1].poll() == 0:
            break
        if workers[-1].poll() is not None:
            workers.append(start(answers, "--worker", "--store", server.url))
        time.sleep(.1)
    answers.deadly = None
    left = fleet(server.url)
    check(f"three workers died ({len(workers) - 1})", len(workers) == 4, *[words_of(w) for w in workers])
    check("the sample is set aside, all others are done", left.get("aside") == 1 and left.get("done") == 29 and
          not left.get("todo") and not left.get("held"), left)
    listed = drr("traces", "stats", server.url).stdout
    check("and listed", "set aside: deadly q000, sample 0: its worker died 3 times" in listed, listed)
    check("the last worker says so", "set aside" in words_of(workers[-1]), words_of(workers[-1]))
    again = drr("distill", "--reasoner", answers.url, "--data", data, "--store", server.url, *one)
    check("planning again tries it again", again.returncode == 0 and fleet(server.url).get("done") == 30, again.stderr)


def test_failing(server, answers):
    data = questions("failing.jsonl", 10, ["", "", "unwanted"])
    answers.failing = "unwanted"
    one = ["--model", "made", "--samples", "1", "--turns", "1", "--max-tokens", "40"]
    done = drr("distill", "--reasoner", answers.url, "--data", data, "--store", server.url, *one)
    left = fleet(server.url)
    check("a sample that fails is listed with its reason", done.returncode == 1 and left.get("failed") == 1 and left.get("done") == 9 and
          "not to be asked" in left["stuck"][0]["why"], done.stderr, left)
    answers.failing = None
    done = drr("distill", "--reasoner", answers.url, "--data", data, "--store", server.url, *one)
    check("and is tried again by the next run", done.returncode == 0 and fleet(server.url).get("done") == 10, done.stderr)


def test_leaving(server, answers):
    """A worker that is told to stop gives back what it holds at once."""
    data = questions("leaving.jsonl", 60)
    answers.pause = 0.5
    worker = start(answers, "--data", data, "--store", server.url, *SETTINGS, "--lease", "60")
    for _ in range(100):
        time.sleep(.1)
        if fleet(server.url).get("held"):
            break
    worker.send_signal(signal.SIGTERM)
    code = worker.wait(20)
    left = fleet(server.url)
    check("a worker that is stopped gives its work back", code == 130 and left.get("held") == 0 and left.get("todo", 0) > 0 and
          left["workers"][0]["state"] == "left", code, left, words_of(worker))
    check("and its tries do not count", server.sql("select max(tries) from drr_units where state=0") == "0")
    answers.pause = 0.02
    done = drr("distill", "--worker", "--reasoner", answers.url, "--model", "made", "--store", server.url)
    check("another does the rest", done.returncode == 0 and fleet(server.url).get("done") == 60 * SAMPLES, done.stderr)


def test_refusals(server, answers, data):
    secret = "hunter2"
    for url in (f"postgres://u:{secret}@127.0.0.1/x", f"postgres://u@127.0.0.1/x?password={secret}", f"postgres://u:{secret}@[bad"):
        done = drr("traces", "stats", url)
        check("a password in the URL is refused and not repeated", done.returncode == 1 and secret not in done.stdout + done.stderr,
              done.stderr)
    done = drr("distill", "--worker", "--reasoner", answers.url, "--model", "made", "--store", "file.db")
    check("a worker needs a database", done.returncode == 2 and "--worker needs --store postgres" in done.stderr, done.stderr)
    done = drr("distill", "--reasoner", answers.url, "--model", "made", "--data", data, "--store", server.url, "--temperature", "0.1")
    check("a store of other settings is refused", done.returncode == 1 and "temperature 0.7" in done.last, done.stderr)
    server.sql("update drr_schema set version=99")
    done = drr("traces", "stats", server.url)
    check("a store of a newer drr is refused", done.returncode == 1 and "newer drr" in done.last, done.stderr)
    server.sql("update drr_schema set version=3")
    server.sql("create role reader login; grant select on all tables in schema public to reader")
    url = server.url.replace("tester@", "reader@")
    done = drr("traces", "stats", url)
    check("a user who may only read can read", done.returncode == 0, done.stderr)
    done = drr("distill", "--worker", "--reasoner", answers.url, "--model", "made", "--store", url)
    check("and is told when it may not work", done.returncode == 1 and "may not" in done.last, done.stderr)
    with open(os.path.join(WORK, "broken.jsonl"), "w") as file, open(os.path.join(WORK, "alone.jsonl")) as whole:
        file.write(whole.readline().replace('"sample":0', '"sample":77') + '{"task": "t"\n')
    before = server.sql("select count(*) from drr_traces")
    done = drr("traces", "import", "broken.jsonl", "--out", server.url)
    check("a broken file leaves the database as it was", done.returncode == 1 and "broken.jsonl:2" in done.last and
          server.sql("select count(*) from drr_traces") == before, done.stderr)


def test_two_plans(server, answers):
    """Two runs with different settings that begin at once in an empty database: one of them is refused."""
    data = questions("two.jsonl", 20)
    answers.pause = 0.02
    runs = [start(answers, "--data", data, "--store", server.url, *SETTINGS, "--temperature", t) for t in ("0.5", "0.9")]
    codes = sorted(run.wait(60) for run in runs)
    check("of two runs with other settings one is refused", codes == [0, 1], codes, *[words_of(run) for run in runs])


def test_more_turns(server, answers):
    """More turns planned beside running workers: no sample stays at the turns of the plan that its worker began with."""
    data = questions("turns.jsonl", 60)
    base = ["--data", data, "--model", "made", "--samples", "1", "--max-tokens", "40"]
    answers.pause = 0.02
    alone = drr("distill", "--reasoner", answers.url, "--out", "turns.db", *base, "--turns", "3", "--width", "64")
    answers.pause = 0.1
    runs = []
    for turns in (1, 2, 3):
        runs.append(start(answers, "--store", server.url, *base, "--turns", str(turns)))
        for _ in range(200):  # until it has planned, and something is done by that
            if server.sql("select to_regclass('drr_units') is not null") == "t" and \
                    server.sql(f"select value like '{turns} turns%' from drr_facts where name='endings'") == "t" and \
                    int(server.sql("select count(*) from drr_units where state=1")) >= 8:
                break
            time.sleep(.05)
    alive_then = len(alive(runs))
    codes = [run.wait(60) for run in runs]
    left = fleet(server.url)
    ours, theirs = export(server.url, "turns-out.jsonl"), export("turns.db", "turns-alone.jsonl")
    check("plans of more turns beside running workers: all work on to the end", alive_then == 3 and codes == [0, 0, 0] and
          left.get("done") == 60 and not left.get("todo") and not left.get("held"), alive_then, codes, left, *[words_of(r) for r in runs])
    check(f"the {len(theirs)} traces are those of the last plan alone", alone.returncode == 0 and ours == theirs and
          {t["turn"] for t in theirs} == {0, 1, 2}, len(ours), len(theirs), *[words_of(run) for run in runs])
    with open(runs[0].log) as log:
        check("a worker says that the plan has changed", "another run has changed the plan to 3 turns, 0.1 forced;" in log.read(), words_of(runs[0]))
    check("what it gave back counts as no try", server.sql("select max(tries) from drr_units") == "1")
    # A plan that breaks off before it has reopened what is done: it is as if it had not been.
    server.sql("create function stop() returns trigger language plpgsql as $$ begin raise exception 'stopped here'; end $$")
    server.sql("create trigger stop before update on drr_units for each row when (old.state=1) execute function stop()")
    more = ["distill", "--reasoner", answers.url, "--store", server.url, *base, "--turns", "4", "--width", "64"]
    broken = drr(*more)
    server.sql("drop trigger stop on drr_units")
    done = drr(*more)
    check("a plan that broke off is made whole by the same command", broken.returncode == 1 and "stopped here" in broken.last and
          done.returncode == 0 and server.sql("select max(turn) from drr_traces") == "3", broken.stderr, done.stderr)


def test_full_disk(server, answers):
    """The tables on a disk of 3 MiB, where this user may mount one."""
    small = os.path.join(WORK, "small")
    os.makedirs(small)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", small], stderr=subprocess.DEVNULL).returncode:
        print("skip - a full disk under the database: no right to mount one")
        return
    try:
        if os.geteuid() == 0:
            shutil.chown(small, "postgres")
        server.sql(f"create tablespace small location '{small}'")
        server.sql("alter database drr set default_tablespace=small")
        data = questions("full.jsonl", 600, ["long " * 60] * 600)
        answers.pause = 0
        run = ["distill", "--reasoner", answers.url, *SETTINGS, "--width", "64", "--data", data, "--store", server.url]
        done = drr(*run)
        check("a full disk under the database is told in a sentence", done.returncode == 1 and "disk is full" in done.last and
              "nothing committed is lost" in done.last, done.stderr[-600:])
        check("and what was committed can be read", drr("traces", "stats", server.url).returncode == 0)
        before = int(server.sql("select count(*) from drr_traces"))
        subprocess.run(["mount", "-o", "remount,size=200m", small], check=True)
        done = drr(*run)
        left = fleet(server.url)
        check("with room again the same command goes on", done.returncode == 0 and left.get("todo") == 0 and
              left.get("traces") >= before, done.stderr[-600:], left)
    finally:
        server.stop("immediate")
        subprocess.run(["umount", small], check=True)


def test_two_writers(answers):
    """Two runs on one SQLite file at once: each keeps to what the other has written."""
    data = questions("both.jsonl", 60)
    answers.pause = 0.02
    alone = drr("distill", "--reasoner", answers.url, "--data", data, "--out", "single.db", *SETTINGS)
    runs = [start(answers, "--data", data, "--out", "both.db", *SETTINGS) for _ in range(2)]
    codes = [run.wait(60) for run in runs]
    ours, theirs = export("both.db", "both-out.jsonl"), export("single.db", "single-out.jsonl")
    check("two runs on one file end well and double nothing", alone.returncode == 0 and codes == [0, 0] and ours == theirs and
          len(theirs) > 60 * SAMPLES, codes, len(ours), len(theirs), *[words_of(run) for run in runs])


def fresh(name):
    return postgres.Server(os.path.join(WORK, name))


def main():
    if not postgres.programs():
        print("PostgreSQL's server is not installed: run tools/setup test-packages")
        return 77
    answers = Answers()
    with fresh("gone") as gone:  # waits in the background for a database that does not come back
        lost = questions("gone.jsonl", 400)
        waiting = start(answers, "--data", lost, "--store", gone.url, *SETTINGS)
        for _ in range(200):
            time.sleep(.1)
            if gone.sql("select count(*) from pg_tables where tablename='drr_traces'") == "1" and \
                    gone.sql("select count(*) from drr_traces") != "0":
                break
        gone.stop("immediate")
        stopped = time.monotonic()
        with fresh("storm") as server:
            data = test_storm(server, answers)
            test_reading(server)
            test_refusals(server, answers, data)
        test_two_writers(answers)
        for name, test in (("full", test_full_disk), ("deadly", test_deadly), ("failing", test_failing), ("leaving", test_leaving),
                           ("two", test_two_plans), ("turns", test_more_turns)):
            with fresh(name) as server:
                test(server, answers)
        code = waiting.wait(120)
        check(f"a database that does not come back ends the run ({time.monotonic() - stopped:.0f} s)", code == 1 and
              "the connection is gone" in words_of(waiting) and "nothing committed is lost" in words_of(waiting), words_of(waiting))
        answers.pause = 0.001
        gone.start()
        done = drr("distill", "--reasoner", answers.url, "--data", lost, "--store", gone.url, *SETTINGS, "--width", "64")
        left = fleet(gone.url)
        check("when it is back, the same command does the rest", done.returncode == 0 and left.get("done") == 400 * SAMPLES, done.stderr,
              left)
    shutil.rmtree(WORK, ignore_errors=True)
    return failures() != 0


sys.exit(main())
