#!/usr/bin/env python3
"""Step labels by continuations with a real model, SmolLM2-135M, through the installed command: into a file, killed and gone on
with, graded by a checker, refused where there is no embedded reasoner; and into PostgreSQL, planned and worked on, and in a
store that an older drr made. The model answers at chance: what is checked is the machinery, not its wisdom."""
import collections
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from checks import DRR, check, failures, lacking, read_traces, run_drr, write_questions  # noqa: E402
import postgres  # noqa: E402

WORK = tempfile.mkdtemp(prefix="drr-e2e.")
os.chmod(WORK, 0o755)  # the database may run as another user, and so may checkers
DISTILL = ["distill", "--reasoner", "smollm2-135m", "--context", "1024", "--width", "8", "--max-tokens", "40", "--seed", "5", "--samples", "1",
           "--json"]
READER = {"accept", "reject"}


def drr(*words, seconds=300):
    return run_drr(*words, folder=WORK, seconds=seconds)


def make(name, *words):
    write_questions(os.path.join(WORK, name), *words)


def export(store, name):
    done = drr("traces", "export", store, "--out", name)
    return read_traces(os.path.join(WORK, name)) if done.returncode == 0 else []


def key(trace):
    return trace["task"], trace["id"], trace["sample"], trace["turn"]


def log2(n):
    return (n - 1).bit_length()


def whole(trace):
    """Do these labels keep what docs/steps.md promises of any?"""
    steps, text = trace["steps"], trace["text"].encode()
    ends = [s["end"] for s in steps]
    return (len(steps) > 1 and ends == sorted(set(ends)) and ends[0] > 0 and ends[-1] == len(text) and
            all(text[:e].decode() for e in ends) and
            all(abs(s["value"] - s["right"] / s["of"]) < 1e-6 if s["of"] else s["value"] in (0, 1) for s in steps) and
            steps[-1]["of"] == 0 and steps[-1]["value"] == (trace["label"] == "accept") and
            sum(s["of"] for s in steps) == trace["steps_rollouts"])


def test_search():
    """First the turns, then their labels: so what the labels cost is seen apart."""
    make("facts.jsonl", "24")
    turns = [*DISTILL, "--data", "facts.jsonl", "--out", "search.db", "--turns", "2"]
    bare = drr(*turns)
    check("distill without --steps labels no step", bare.returncode == 0 and bare.json.get("rollouts") == 0 and
          not any("steps" in t for t in export("search.db", "bare.jsonl")), bare.stderr)
    run = drr(*turns, "--steps", "mc=3")
    traces, before = export("search.db", "search.jsonl"), export("search.db", "search.jsonl")
    bare_traces = [json.loads(line) for line in open(os.path.join(WORK, "bare.jsonl"))]
    check("the labels come later, and no turn is made again", run.returncode == 0 and run.json.get("new_traces") == 0 and
          run.json.get("tokens_written") == 0 and
          [{k: v for k, v in t.items() if not k.startswith("steps")} for t in traces] == bare_traces, run.stderr)
    stepped = [t for t in traces if "steps" in t]
    check(f"of {len(traces)} traces {len(stepped)} have step labels that hold together", len(stepped) > 5 and all(map(whole, stepped)),
          [t for t in stepped if not whole(t)][:1])
    check("all that can be read and have more than one step, no other", all(("steps" in t) <= (t["label"] in READER) for t in traces) and
          all("steps" in t for t in traces if t["label"] in READER and "\nAnswer:" in t["text"].strip()))
    wrong, right = ([t for t in stepped if t["label"] == label] for label in ("reject", "accept"))
    check(f"the {len(wrong)} wrong ones took a search", wrong and all(t["steps_rollouts"] <= 3 * log2(len(t["steps"])) for t in wrong) and
          sum(t["steps_rollouts"] for t in wrong) > 0, wrong[:1])
    check(f"the {len(right)} right ones took nothing", right and all(t["steps_rollouts"] == t["steps_tokens"] == 0 and
          {s["value"] for s in t["steps"]} == {1} for t in right), right[:1])
    n_rollouts, n_tokens = (sum(t.get(name, 0) for t in traces) for name in ("steps_rollouts", "steps_tokens"))
    check(f"{n_rollouts} continuations of {n_tokens} tokens are counted in the run's JSON", n_tokens > n_rollouts > 0 and
          run.json.get("rollouts") == n_rollouts and run.json.get("step_tokens") == n_tokens and
          run.json.get("new_stepped") == len(stepped), run.stdout)
    check("and told as it goes", f"{n_rollouts} rollouts of {n_tokens} tokens" in run.stderr, run.stderr)
    stats = drr("traces", "stats", "search.db", "--json")
    check("and counted by traces stats", stats.json.get("rollouts") == n_rollouts and stats.json.get("step_tokens") == n_tokens and
          stats.json.get("stepped") == len(stepped), stats.stdout)
    prompts = sum(t["steps_rollouts"] * t["n_prompt_tokens"] for t in stepped)
    computed = run.json.get("prompt_tokens_computed", prompts)
    check(f"of {prompts} prompt tokens of the continuations {computed} are computed", 0 < computed < prompts / 3)
    shown = drr("traces", "show", "search.db", "--label", "reject", "--n", "0").stdout
    check("traces show has the steps with their values", f"{len(wrong[0]['steps'])} steps, labelled by" in shown and
          ("0 of 3" in shown or "3 of 3" in shown) and "inferred" in shown, shown[:900])
    again = drr(*turns, "--steps", "mc=3")
    check("a third run generates nothing", again.returncode == 0 and again.json.get("rollouts") == 0 and
          again.json.get("new_traces") == 0 and export("search.db", "again.jsonl") == before, again.stderr)
    other = drr("traces", "import", "search.jsonl", "--out", "other.db")
    check("an import keeps the labels", other.returncode == 0 and export("other.db", "other.jsonl") == traces, other.stderr)


def stepped_so_far(store):
    import sqlite3
    try:
        db = sqlite3.connect(f"file:{os.path.join(WORK, store)}?mode=ro", uri=True)
        return db.execute("select count(steps) from traces").fetchone()[0]
    except sqlite3.Error:
        return 0


def test_kill():
    command = [*DISTILL, "--data", "facts.jsonl", "--out", "killed.db", "--turns", "2", "--steps", "mc=2,all"]
    with open(os.path.join(WORK, "killed.log"), "w") as log:
        process = subprocess.Popen([DRR, *command], cwd=WORK, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        for _ in range(6000):
            if stepped_so_far("killed.db") >= 3 or process.poll() is not None:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = export("killed.db", "before.jsonl")
    n_before = sum("steps" in t for t in before)
    done = drr(*command)
    after = export("killed.db", "after.jsonl")
    check(f"killed with {n_before} of {len(before)} traces labelled, it goes on", done.returncode == 0 and n_before >= 3, done.stderr)
    kept = {key(t): t for t in after}
    check("no trace is lost, changed or doubled, and no label", len(kept) == len(after) and
          all(kept[key(t)] == t or "steps" not in t and {**kept[key(t)], **t} == kept[key(t)] for t in before))
    stepped = [t for t in after if "steps" in t]
    check(f"with `all` every step but the last of {len(stepped)} traces is tried", len(stepped) > n_before and all(map(whole, stepped)) and
          all([s["of"] for s in t["steps"]] == [2] * (len(t["steps"]) - 1) + [0] for t in stepped),
          [t for t in stepped if not whole(t)][:1])
    fresh = collections.Counter(t["id"] for t in after if t["turn"] == 0)
    check("every question has its sample", len(fresh) == 24 and set(fresh.values()) == {1}, fresh)


def test_checker():
    doctor = drr("doctor", "--json").json
    if not doctor.get("checkers", {}).get("contained"):
        print("skip - continuations are graded by a checker (this machine cannot contain programs)")
        return
    with open(os.path.join(WORK, "checked.jsonl"), "w") as file:
        for n, command in enumerate(["exit 0", "exit 1", "exit 3"]):
            print(json.dumps({"id": f"c{n}", "question": "Write two lines about bees.", "kind": "checked", "checker": command}), file=file)
    run = drr(*DISTILL, "--data", "checked.jsonl", "--out", "checked.db", "--turns", "1", "--allow-checkers", "--steps", "mc=2,all",
              "--samples", "3")
    traces = export("checked.db", "checked.traces.jsonl")
    stepped = [t for t in traces if "steps" in t]
    check("continuations are graded by their checker", run.returncode == 0 and stepped and all(map(whole, stepped)) and
          all(s["right"] == (s["of"] if t["id"] == "c0" else 0) for t in stepped for s in t["steps"]), run.stderr, stepped[:1], traces[:1])
    check("and what it cannot decide has no steps", all(t["label"] == "unlabelled" and "steps" not in t for t in traces if t["id"] == "c2"))


def test_refusals():
    make("made.replay.jsonl", "4", "--traces", "made")
    done = drr("distill", "--data", "facts.jsonl", "--reasoner", "made.replay.jsonl", "--out", "no.db", "--steps", "mc=2")
    check("recorded answers cannot be gone on with", done.returncode == 1 and "--steps needs the embedded reasoner" in done.last and
          not os.path.exists(os.path.join(WORK, "no.db")), done.stderr)
    for words in ("mc=0", "4", "mc=", "mc=2,some", "mc=2,", "mc=-1", "mc=99999", "mc=2 "):
        done = drr(*DISTILL, "--data", "facts.jsonl", "--out", "no.db", "--steps", words)
        check(f"--steps {words!r} is not understood", done.returncode == 2 and "mc=M,all" in done.stderr, done.stderr)
    for words, why in ((["--grammar"], "--grammar"), (["--temperature", "0"], "temperature above 0")):
        done = drr(*DISTILL, "--data", "facts.jsonl", "--out", "no.db", "--steps", "mc=2", *words)
        check(f"--steps with {' '.join(words)} is refused", done.returncode == 1 and why in done.last and
              not os.path.exists(os.path.join(WORK, "no.db")), done.stderr)
    done = drr("distill", "--worker", "--store", "postgres://nobody@127.0.0.1/none", "--steps", "mc=2")
    check("a worker takes the plan's", done.returncode == 2 and "as they were planned" in done.stderr, done.stderr)


OLDER = ("alter table drr_traces drop column steps, drop column steps_rollouts, drop column steps_tokens, drop column hidden; "
         "update drr_schema set version=1")


def test_postgres():
    if not postgres.programs():
        print("skip - step labels in PostgreSQL (it is not installed: run tools/setup test-packages)")
        return
    make("few.jsonl", "6")
    plain = [{k: v for k, v in t.items() if not k.startswith("steps")} for t in export("search.db", "search.jsonl")]
    with postgres.Server(os.path.join(WORK, "older")) as server:
        drr("traces", "import", "bare.jsonl", "--out", server.url)
        server.sql(OLDER)
        old = export(server.url, "old.jsonl")
        stats = drr("traces", "stats", server.url, "--json")
        check("a store of an older drr is read as it is", old == plain and stats.json.get("traces") == len(plain) and
              stats.json.get("rollouts") == 0 and server.sql("select version from drr_schema") == "1", stats.stderr, old[:1])
        done = drr("traces", "import", "other.jsonl", "--out", server.url)
        check("and written to it becomes one of today's", done.returncode == 0 and server.sql("select version from drr_schema") == "3" and
              export(server.url, "new.jsonl") == plain, done.stderr)
    with postgres.Server(os.path.join(WORK, "fresh")) as server:
        done = drr("traces", "import", "search.jsonl", "--out", server.url)
        stats = drr("traces", "stats", server.url, "--json")
        check("labels go into PostgreSQL and out again", done.returncode == 0 and export(server.url, "there.jsonl") ==
              export("search.db", "here.jsonl") and stats.json.get("stepped", 0) > 5, done.stderr)
    with postgres.Server(os.path.join(WORK, "plan")) as server:
        planned = [*DISTILL, "--data", "few.jsonl", "--turns", "2", "--store", server.url]
        bare, run = drr(*planned), drr(*planned, "--steps", "mc=2,all")
        traces = export(server.url, "planned.jsonl")
        stepped = [t for t in traces if "steps" in t]
        check("a plan with --steps looks at what is done again, and labels it", bare.returncode == run.returncode == 0 and
              run.json.get("new_traces") == 0 and run.json.get("rollouts", 0) > 0 and stepped and all(map(whole, stepped)), run.stderr)
        server.sql("update drr_traces set steps=null, steps_rollouts=0, steps_tokens=0; update drr_units set state=0")
        worker = drr("distill", "--worker", "--reasoner", "smollm2-135m", "--context", "1024", "--width", "8", "--store", server.url)
        check("a worker follows the plan", worker.returncode == 0 and all("steps" in t and
              [s["of"] for s in t["steps"]] == [2] * (len(t["steps"]) - 1) + [0]
              for t in export(server.url, "worked.jsonl") if key(t) in {key(s) for s in stepped}), worker.stderr)


def main():
    why = lacking("smollm2-135m")
    if why:
        print(why)
        return 77
    test_search()
    test_kill()
    test_checker()
    test_refusals()
    test_postgres()
    shutil.rmtree(WORK, ignore_errors=True)
    return failures() != 0


sys.exit(main())
