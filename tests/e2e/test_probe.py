#!/usr/bin/env python3
"""Hidden states and the critics that read them, with a real model, SmolLM2-135M, through the installed command: kept in traces,
learned from, judged by, refused where they are another model's, done without where there are none; served with their model, and
with none else; and in PostgreSQL. The
questions are CommonsenseQA's where ../shared has them. The model answers at chance: what is checked is the machinery."""
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from checks import ROOT, check, failures, lacking, model_path, read_traces, run_drr, write_questions  # noqa: E402
import postgres  # noqa: E402
from serving import Served, make_critic, request  # noqa: E402

REAL = os.path.join(ROOT, "..", "shared", "data", "csqa.dev.jsonl")
WORK = tempfile.mkdtemp(prefix="drr-e2e.")
os.chmod(WORK, 0o755)  # the database may run as another user
QUESTIONS = 64
ASK = ["--reasoner", "smollm2-135m", "--context", "1024", "--width", "8"]
DISTILL = ["distill", *ASK, "--max-tokens", "24", "--seed", "5", "--samples", "2", "--turns", "1", "--json"]


def at(name):
    return os.path.join(WORK, name)


def drr(*words, seconds=3000):
    return run_drr(*words, folder=WORK, seconds=seconds)


def export(store, name):
    done = drr("traces", "export", store, "--out", name)
    return read_traces(at(name)) if done.returncode == 0 else []


def make_questions():
    source = REAL
    if not os.path.exists(source):
        source = at("made.jsonl")
        write_questions(source, str(QUESTIONS + 10))
    with open(source) as file:
        lines = file.read().splitlines()[:QUESTIONS + 10]
    for name, part in (("some.jsonl", lines[:QUESTIONS]), ("others.jsonl", lines[QUESTIONS:])):
        with open(at(name), "w") as file:
            file.write("\n".join(part) + "\n")


def without_hidden(traces):
    return [{k: v for k, v in t.items() if k not in ("hidden", "seconds")} for t in traces]


def test_distill():
    done = drr(*DISTILL, "--data", "some.jsonl", "--hidden", "15,last", "--out", "traces.db")
    traces = export("traces.db", "traces.jsonl")
    check("distill --hidden keeps them with each trace", done.returncode == 0 and len(traces) == 2 * QUESTIONS and
          done.json.get("new_hidden") == done.json.get("new_traces") == len(traces) and all(t.get("hidden") for t in traces), done.stderr)
    stats = drr("traces", "stats", "traces.db", "--json")
    check("and stats tells", stats.json.get("hidden") == len(traces), stats.stdout)
    bare = drr(*DISTILL, "--data", "some.jsonl", "--limit", "8", "--out", "bare.db")
    check("distill without it keeps none", bare.returncode == 0 and bare.json.get("new_hidden") == 0 and
          not any("hidden" in t for t in export("bare.db", "bare.jsonl")), bare.stderr)
    again = drr("traces", "import", "traces.jsonl", "--out", "copy.db")
    check("export and import keep them to the letter", again.returncode == 0 and export("copy.db", "copy.jsonl") == traces, again.stderr)
    done = drr("distill", "--reasoner", "bare.jsonl", "--data", "some.jsonl", "--hidden", "last", "--out", "no.db")
    check("recorded answers without them cannot give any", done.returncode == 1 and "gives no hidden states" in done.last, done.stderr)
    for words in ("31", "0", "last,last", "deep"):
        done = drr(*DISTILL, "--data", "some.jsonl", "--hidden", words, "--out", "no.db")
        check(f"--hidden {words} is refused", done.returncode == 1 and "layer" in done.last and not os.path.exists(at("no.db")), done.stderr)
    return traces


def test_train(traces):
    labels = [t["label"] == "accept" for t in traces]
    print(f"# {sum(labels)} of {len(labels)} traces are right")
    done = drr("train", "--traces", "traces.db", "--kind", "probe", "--out", "probe.gguf", "--json")
    probe = done.json.get("probe") or {}
    check("train --kind probe fits one of the layers kept", done.returncode == 0 and done.json.get("kind") == "probe" and
          probe.get("layer") in ("15", "last") and probe.get("n_train") == done.json.get("n_train"), done.stderr)
    check("and reports it beside its controls", isinstance(done.json.get("auroc_probe"), float) and done.json.get("auroc_text") is None and
          isinstance(done.json.get("auroc_length"), float) and "auroc_vote" in done.json, done.stdout)
    again = drr("train", "--traces", "traces.jsonl", "--kind", "probe", "--out", "again.gguf", "--json", "--threads", "1")
    check("the same from the file of traces", again.json.get("probe", {}).get("dev_log_loss") == probe.get("dev_log_loss"), again.stderr)
    check("its file is small", os.path.exists(at("probe.gguf")) and os.path.getsize(at("probe.gguf")) < 100000)
    card = open(at("probe.card.md")).read() if os.path.exists(at("probe.card.md")) else ""
    check("its card tells of the probe", f"of layer {probe.get('layer')}, " in card and "hidden states" in card, card[:600])
    show = drr("critic", "show", "probe.gguf", "--json")
    check("critic show tells whose it is", show.json.get("kind") == "probe" and show.json.get("probe_reasoner") == traces[0]["reasoner"] and
          show.json.get("probe_layer") == probe.get("layer"), show.stdout)
    done = drr("train", "--traces", "bare.db", "--kind", "probe", "--out", "no.gguf")
    check("traces without hidden states train none", done.returncode == 1 and "fewer than 50" in done.last or
          "--hidden" in done.last, done.stderr)
    done = drr("critic", "score", "--critic", "probe.gguf", "--in", "traces.jsonl")
    check("a probe scores no lines of text", done.returncode == 1 and "no text" in done.last, done.stderr)
    done = drr("critic", "export", "--critic", "probe.gguf", "--to", "folder")
    check("and is not exported", done.returncode == 1 and "probe" in done.last, done.stderr)


def question():
    with open(at("others.jsonl")) as file:
        return json.loads(file.readline())


def reason(critic, *words):
    asked = question()
    more = ["--choices", "|".join(asked["choices"])] if asked.get("choices") else ["--kind", asked["kind"]]
    return drr("reason", asked["question"], *more, "--critic", critic, "--max-turns", "2", "--turn-tokens", "24", "--json", *words)


def test_judging():
    done = reason("probe.gguf", *ASK)
    turns = done.json.get("turns", [])
    check("reason judges by the probe", done.returncode == 0 and turns and all(
        isinstance(t["probe"], float) and math.isfinite(t["probe"]) and 0 < t["p_correct"] < 1 for t in turns), done.stderr)
    check("without a warning", "hidden states" not in done.stderr, done.stderr)
    os.symlink(model_path("smollm2-135m"), at("stranger.gguf"))
    done = reason("probe.gguf", "--reasoner", "stranger.gguf", "--context", "1024", "--width", "2")
    check("hidden states of another model are refused", done.returncode == 1 and "means nothing for those of stranger@" in done.last,
          done.stderr)
    asked = question()
    with open(at("said.jsonl"), "w") as file:
        text = asked["question"] + "".join(f" ({letter}) {c}" for letter, c in zip("ABCDE", asked.get("choices") or []))
        file.write(json.dumps({"question": text, "text": f"Answer: {asked['answer']}", "reasoner": "somebody"}) + "\n")
    done = reason("probe.gguf", "--reasoner", "said.jsonl")
    check("where there are none it says so and goes on", done.returncode == 0 and "gives none" in done.stderr and
          done.json.get("turns") and done.json["turns"][0]["probe"] is None, done.stderr)
    evaluate = ["eval", "--data", "others.jsonl", *ASK, "--critic", "probe.gguf", "--strategies", "cot,best-of-n", "--samples", "2",
                "--turn-tokens", "24", "--limit", "3", "--out", "eval", "--json"]
    done = drr(*evaluate)
    again = drr(*evaluate)
    def figures(ended):  # the judge's own time alone is not kept with the samples
        tasks = ended.json.get("tasks") or {}
        for strategy in (s for task in tasks.values() for s in task["strategies"].values()):
            strategy.pop("mean_judge_seconds")
        return json.dumps(tasks, sort_keys=True)

    tasks = [figures(d) for d in (done, again)]
    check("eval judges by it, and the kept samples are judged alike", done.returncode == 0 and again.returncode == 0 and
          tasks[0] == tasks[1] != "{}" and "gives none" not in done.stderr, done.stderr + again.stderr)


def test_stack():
    if not os.path.exists(model_path("all-minilm-l6-v2")):
        print("skip - train --kind stack (there is no encoder: run tools/setup models all-minilm-l6-v2)")
        return
    done = drr("train", "--traces", "traces.db", "--kind", "stack", "--epochs", "1", "--max-length", "64", "--out", "stack.gguf", "--json")
    figures = ("auroc_text", "auroc_probe", "auroc_stack", "auroc_length")
    check("train --kind stack has text and probe", done.returncode == 0 and all(isinstance(done.json.get(f), float) for f in figures),
          done.stderr)
    done = reason("stack.gguf", *ASK)
    turns = done.json.get("turns", [])
    check("reason judges by both", done.returncode == 0 and turns and all(
        isinstance(t["probe"], float) and isinstance(t["logit"], float) and t["probe"] != t["logit"] for t in turns), done.stderr)
    done = reason("stack.gguf", "--reasoner", "said.jsonl")
    check("and by the text alone where there are no hidden states", done.returncode == 0 and "the text and the rest alone" in done.stderr and
          isinstance(done.json["turns"][0]["logit"], float), done.stderr)


def test_serve():
    """A probe is served with its own model alone; by the same file /classify is refused, for it reads no text."""
    small = make_critic(os.path.join(WORK, "text"), layers=1, width=16, heads=2, positions=32)
    asked = question()
    body = {"messages": [{"role": "user", "content": asked["question"]}], "max_tokens": 24, "drr": {"max_turns": 2}}
    shutil.copy(at("probe.gguf"), at("live.gguf"))
    with Served(at("serve.log"), *ASK, "--critic", at("live.gguf")) as server:
        status, headers, seen = request(server.port, "POST", "/v1/chat/completions", body)
        turns = seen.get("drr", {}).get("turns") or [{}]
        check("serve judges by the probe", status == 200 and seen["drr"]["judge"] == "critic" and
              all(isinstance(t["p_correct"], float) for t in turns) and "hidden states" not in server.said(), status, seen, server.said())
        status, _, seen = request(server.port, "POST", "/classify", {"input": "What?[SEP]That."})
        check("its routes for texts say that it reads none", status == 501 and "probe" in seen["error"]["message"], status, seen)
    with Served(at("serve2.log"), *ASK, "--critic", small) as server:
        shutil.copy(at("probe.gguf"), small)
        server.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 10
        while time.monotonic() < until and "not reloaded" not in server.said():
            time.sleep(.05)
        check("a probe that comes on SIGHUP to a model that keeps no states is not taken", "not reloaded" in server.said() and
              "start the server anew" in server.said() and request(server.port, "POST", "/v1/chat/completions", body)[2]["drr"]["judge"] == "critic",
              server.said())
    for name in ("probe.gguf", "stack.gguf"):
        if not os.path.exists(at(name)):
            continue
        done = drr("serve", "--port", "0", "--upstream", "http://127.0.0.1:9/v1", "--critic", name, seconds=60)
        check(f"{name} before an upstream is refused at start", done.returncode == 1 and "no upstream gives" in done.stderr and
              "--reasoner" in done.stderr, done.stderr)
    done = drr("serve", "--port", "0", "--reasoner", "stranger.gguf", "--context", "1024", "--width", "2", "--critic", "probe.gguf", seconds=120)
    check("and so is another model", done.returncode == 1 and "mean nothing to it" in done.stderr, done.stderr)


def test_postgres(traces):
    if not postgres.programs():
        print("skip - hidden states in PostgreSQL (it is not installed: run tools/setup test-packages)")
        return
    with postgres.Server(os.path.join(WORK, "server")) as server:
        done = drr("traces", "import", "traces.jsonl", "--out", server.url)
        check("hidden states go into PostgreSQL and out again", done.returncode == 0 and export(server.url, "there.jsonl") == traces,
              done.stderr)
        stats = drr("traces", "stats", server.url, "--json")
        check("and are counted", stats.json.get("hidden") == len(traces), stats.stdout)
        server.sql("alter table drr_traces drop column hidden; update drr_schema set version=2")
        older = export(server.url, "older.jsonl")
        check("a store of an older drr is read as it is", without_hidden(older) == without_hidden(traces) and
              not any("hidden" in t for t in older) and server.sql("select version from drr_schema") == "2")
        done = drr("traces", "import", "traces.jsonl", "--out", server.url)
        check("and written to it becomes one of today's", done.returncode == 0 and server.sql("select version from drr_schema") == "3",
              done.stderr)


why_not = lacking("smollm2-135m")
if why_not:
    print(why_not)
    sys.exit(77)
try:
    make_questions()
    all_traces = test_distill()
    test_train(all_traces)
    test_judging()
    test_stack()
    test_serve()
    test_postgres(all_traces)
finally:
    shutil.rmtree(WORK, ignore_errors=True)
sys.exit(1 if failures() else 0)
