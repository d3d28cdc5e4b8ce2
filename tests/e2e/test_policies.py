#!/usr/bin/env python3
"""Policies through the installed command. Judges in place of a critic: other programs over their five routes (a server that
answers as theirs do, and misbehaves where it is told to), and the plain ones, with recorded answers as the reasoner. Then with
a real model, SmolLM2-135M: the reasoner as its own judge, a question's seconds, and early rejection by a critic that was
trained here and scores steps. The model answers at chance: what is checked is the machinery, not its wisdom."""
import http.server
import json
import os
import shutil
import sys
import tempfile
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from checks import check, failures, lacking, run_drr, write_questions  # noqa: E402

WORK = tempfile.mkdtemp(prefix="drr-e2e.")
KEY = "drr-judge-key-3f1b7a20"


def drr(*words, key=None):
    return run_drr(*words, folder=WORK, seconds=900, environment={**os.environ, **({"DRR_JUDGE_API_KEY": key} if key else {})})


class Judge(http.server.ThreadingHTTPServer):
    """Likes answers that say "know" (P 0.9), and no others (0.1): those of questions.py that are right."""
    daemon_threads = True

    def __init__(self, fault=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.fault, self.bodies, self.keys, self.n = fault, [], set(), 0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


def reply(path, body):
    def p(text):
        return 0.9 if "know" in text else 0.1
    if path == "/v1/rerank":
        return {"results": [{"index": 0, "relevance_score": 2.2 if "know" in body["documents"][0] else -2.2}]}
    if path == "/v1/score":
        return {"data": [{"index": 0, "object": "score", "score": p(body["documents"])}]}
    if path == "/classify":
        good = "know" in body["input"][0]
        return {"data": [{"index": 0, "label": "accept" if good else "reject", "probs": [0.9, 0.1] if good else [0.1, 0.9],
                          "num_classes": 2}]}
    if path == "/v1/decisions":
        return {"answers": [{"type": "predicate", "name": body["questions"][0]["name"], "probability": p(body["input"])}]}
    if path == "/v1/systemone":
        return {"answers": {name: {"type": "noul", "noul": p(body["state"]["answer"])} for name in body["questions"]}}
    return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.n += 1
        server.bodies.append(body)
        server.keys.add(self.headers.get("Authorization"))
        out, status = reply(self.path, body), 200
        if server.fault == "busy" and server.n <= 2:
            out, status = {"error": "busy"}, 503
        elif server.fault == "refuses" or out is None:
            out, status = {"error": f"no such thing for {self.headers.get('Authorization')}"}, 404
        elif server.fault == "shape":
            out = {"data": []}
        elif server.fault == "number":
            out = {"data": [{"score": 7.5}]}
        elif server.fault == "garbage":
            out = None
        data = b"{not json" if out is None else json.dumps(out).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


REPLAY = ["--data", "asked.jsonl", "--reasoner", "some.replay.jsonl", "--bootstrap", "0", "--json"]


def test_routes():
    for path, words in {"/v1/rerank": "documents", "/v1/score": "queries", "/classify": "input", "/v1/decisions": "questions",
                        "/v1/systemone": "state"}.items():
        server = Judge()
        done = drr("eval", *REPLAY, "--judge", server.url(path), "--threshold", "0.5", "--strategies", "cot,best-of-n,drr",
                   "--samples", "2", "--max-turns", "2", "--judge-model", "judge-1", "--out", "routes" + path.replace("/", "."),
                   key=KEY)
        figures = done.json.get("tasks", {}).get("asked", {}).get("strategies", {})
        better = figures and all(figures[s]["accuracy"] > figures["cot"]["accuracy"] for s in ("best-of-n", "drr"))
        check(f"a judge over {path}", done.returncode == 0 and done.json["judge"] == server.url(path) and better and
              done.json["critic"] is None and server.keys == {"Bearer " + KEY} and
              all(words in b and b["model"] == "judge-1" for b in server.bodies), figures, done.stderr)
        with open(os.path.join(WORK, "routes" + path.replace("/", "."), "report.txt")) as file:
            check(f"{path}: the report names it", "judge: " + server.url(path) in file.read())
        check(f"{path}: its AUROC is that of what it said", done.json["tasks"]["asked"]["critic"]["auroc"] == 1, done.stdout[-400:])
        server.shutdown()
    server = Judge()
    done = drr("eval", *REPLAY, "--judge", server.url("/v1"), "--judge-route", "score", "--threshold", "0.5", "--strategies", "drr",
               "--limit", "2", "--out", "based")
    check("a base address and a route's name", done.returncode == 0 and server.n > 0, done.stderr)


def test_routes_that_fail():
    def ask(server, path="/v1/score", *words):
        return drr("eval", *REPLAY, "--judge", server.url(path), "--threshold", "0.5", "--strategies", "drr", "--limit", "1",
                   "--judge-seconds", "20", "--out", "failing", *words, key=KEY)
    done = ask(Judge("busy"))
    check("a busy judge is asked again", done.returncode == 0, done.stderr)
    done = ask(Judge("refuses"))
    check("a refusal ends it at once, and does not show the key", done.returncode == 1 and "404" in done.last and
          "****" in done.last and KEY not in done.stderr, done.stderr)
    for fault, words in {"shape": "data[0].score", "number": "--judge-scale logit", "garbage": "not valid JSON"}.items():
        done = ask(Judge(fault))
        check(f"a reply of another shape is not misread: {fault}", done.returncode == 1 and words in done.last, done.stderr)
    done = ask(Judge("number"), "/v1/score", "--judge-scale", "logit")
    check("a score of log-odds is taken as such", done.returncode == 0, done.stderr)
    done = drr("eval", *REPLAY, "--judge", "http://127.0.0.1:9/v1/score", "--judge-seconds", "1", "--threshold", "0.5", "--strategies",
               "drr", "--out", "nobody")
    check("where nobody listens that is said", done.returncode == 1 and "127.0.0.1:9" in done.last, done.stderr)


def test_plain_judges():
    for judge in ("vote", "length"):
        done = drr("eval", *REPLAY, "--judge", judge, "--threshold", "0.5", "--out", judge)
        check(f"the judge {judge} runs every strategy", done.returncode == 0 and done.json["judge"] == judge and
              set(done.json["tasks"]["asked"]["strategies"]) == {"cot", "self-critique", "vote", "best-of-n", "drr"}, done.stderr)
    for words, said in [(["--judge", "vote"], "--threshold"), (["--judge", "slef", "--threshold", "1"], "there is no judge"),
                        (["--judge", "self", "--threshold", "1"], "recorded ones alone"),
                        (["--judge", "logprob", "--threshold", "1"], "log-probabilities"),
                        (["--judge", "vote", "--threshold", "0.5", "--early", "0.5"], "early rejection"),
                        (["--judge", "vote", "--threshold", "0.5", "--feedback", "step"], "suspicious step")]:
        done = drr("eval", *REPLAY, "--strategies", "drr", "--out", "refused", *words)
        check(f"refused: {' '.join(words)}", done.returncode == 1 and said in done.last, done.stderr)
    done = drr("eval", *REPLAY, "--judge", "vote", "--critic", "x.gguf", "--out", "refused")
    check("a judge and a critic are one too many", done.returncode == 2 and "--judge takes the place" in done.stderr, done.stderr)


MODEL = ["--reasoner", "smollm2-135m", "--context", "1024", "--turn-tokens", "60"]


def test_self_and_seconds():
    asked = "Is it true that ice floats on water?"
    done = drr("reason", asked, *MODEL, "--judge", "self", "--threshold", "1", "--max-turns", "2", "--json")
    turns = done.json.get("turns", [])
    words = [t for t in turns if t["role"] == "judge"]
    attempts = [t for t in turns if t["role"] == "attempt" and t["answer"]]
    check("a model judges its own answers in turns of their own", done.returncode == 0 and len(words) == len(attempts) > 0 and
          all(0 < t["p_correct"] < 1 or t["p_correct"] is None for t in attempts) and
          done.json["n_tokens"] == sum(t["n_tokens"] for t in turns) and done.json["judge"] == "self", done.stdout, done.stderr)
    shown = drr("reason", asked, *MODEL, "--judge", "self", "--threshold", "1", "--max-turns", "1")
    check("which are shown", shown.returncode == 0 and "judge 0.0" in shown.stdout, shown.stdout, shown.stderr)
    endless = ["--judge", "length", "--threshold", "1", "--max-turns", "64", "--json"]
    done = drr("reason", asked, *MODEL, *endless, "--max-seconds", "1.5")
    turns = done.json.get("turns", [])
    spent = [t["seconds"] for t in turns]  # on a busy machine one prompt may take longer than that: then it is the last
    check("a question's seconds end it, by the clock", done.returncode == 0 and sum(spent[:-1]) < 1.5 <= sum(spent) + 0.01 and
          len(turns) < 64 and done.json["outcome"] in ("answered", "unparsed") and
          all(t["finish"] != "time" for t in turns[:-1]), done.stdout[-600:], done.stderr)
    done = drr("reason", asked, *MODEL, *endless, "--max-seconds", "0.0001")
    turns = done.json.get("turns", [])
    check("where they are over at once a token is written, and no more", done.returncode == 0 and len(turns) == 1 and
          turns[0]["n_tokens"] == 1 and turns[0]["finish"] == "time", done.stdout, done.stderr)


def follows(before, cut, after):
    """Does the ledger go on where the cut piece was good?"""
    return (cut["finish"] == "cut" and cut["verdict"] == "reject" and cut["answer"] is None and
            after["cuts"] == before + 1 and cut["text"].encode()[:after["kept"]] == after["text"].encode()[:after["kept"]])


def write_small_steps():
    """Examples of many short sentences, as the model then writes them too; and some questions."""
    words = [("A shelf holds 6 boxes with 9 jars in each. Then 14 jars are sold. How many are left?",
              "There are 6 boxes. Each box has 9 jars. So there are 6 * 9 = 54 jars. Then 14 jars go. So 54 - 14 = 40 are left.\nAnswer: 40"),
             ("Nora ran 12 laps on Monday. On Tuesday she ran 5 laps more. How many laps did she run on Tuesday?",
              "On Monday it was 12 laps. Tuesday had 5 more. So it was 12 + 5 = 17. That is all.\nAnswer: 17")]
    with open(os.path.join(WORK, "words.json"), "w") as file:
        json.dump({"number": {"examples": [{"question": q, "answer": a} for q, a in words]}}, file)
    with open(os.path.join(WORK, "facts.jsonl"), "w") as file:
        for i in range(2):
            file.write(json.dumps({"id": str(i), "question": f"Ann has {3 + i} bags with 8 nuts in each. She eats 5 nuts. How many "
                                   "are left?", "answer": str(8 * (3 + i) - 5), "kind": "number"}) + "\n")


def test_early():
    write_small_steps()
    done = drr("train", "--traces", "all.jsonl", "--encoder", "all-minilm-l6-v2", "--head", "token", "--epochs", "1", "--max-length",
               "64", "--out", "steps.gguf")
    check("a critic that scores steps", done.returncode == 0, done.stderr)
    asked = ["Ann has 3 bags with 8 nuts in each. She eats 5 nuts. How many are left?"]
    early = ["--early", "1", "--early-cuts", "2", "--early-steps", "2", "--critic", "steps.gguf",
             "--prompts", "words.json"]
    alone = ["--max-turns", "1", "--early-free"]
    done = drr("reason", *asked, *MODEL, *early, *alone, "--json")
    turns = done.json.get("turns", [])
    check("an answer under way is stopped, and its good part kept", done.returncode == 0 and done.json["n_cuts"] > 0 and
          done.json["n_cuts"] == sum(t["role"] == "cut" for t in turns) and
          all(follows(i, turns[i], turns[i + 1]) for i in range(len(turns) - 1)) and turns[-1]["kept"] > 0 and
          done.json["n_tokens"] == sum(t["n_tokens"] for t in turns) > done.json["n_cut_tokens"] > 0 and
          done.json["judge_seconds"] > 0, done.stdout, done.stderr)
    shown = drr("reason", *asked, *MODEL, *early, *alone)
    check("which is shown", shown.returncode == 0 and "stopped early" in shown.stdout, shown.stdout, shown.stderr)
    run = ["eval", "--data", "facts.jsonl", *MODEL, "--width", "4", *early, "--strategies", "cot,best-of-n,drr", "--samples", "2",
           "--max-turns", "3", "--feedback", "step", "--bootstrap", "0", "--json", "--out", "early"]
    first, again = drr(*run), drr(*run)
    figures = first.json.get("tasks", {}).get("facts", {}).get("strategies", {})
    check("an evaluation counts what was stopped", first.returncode == 0 and figures["drr"].get("mean_cuts", 0) > 0 and
          "mean_cuts" not in figures["cot"] and figures["drr"]["mean_judge_seconds"] > 0 and
          first.json["policy"]["early_below"] == 1 and first.json["policy"]["feedback"] == "step", first.stdout[-800:], first.stderr)
    same = {s: {k: v for k, v in f.items() if "seconds" not in k} for s, f in figures.items()}
    then = again.json.get("tasks", {}).get("facts", {}).get("strategies", {})
    check("and again without generating anything, with the same figures", again.returncode == 0 and
          "\n0 completions generated" in again.stderr and
          same == {s: {k: v for k, v in f.items() if "seconds" not in k} for s, f in then.items()}, again.stderr, figures, then)
    done = drr("reason", *asked, *MODEL, *early, "--grammar")
    check("a grammar cannot begin in the middle", done.returncode == 1 and "grammar" in done.last, done.stderr)


def main():
    why = lacking("smollm2-135m", "all-minilm-l6-v2")
    if why:
        print(why)
        return 77
    for name, *words in (("asked.jsonl", "12"), ("some.replay.jsonl", "12", "--traces", "recorder"),
                         ("all.jsonl", "60", "--traces", "recorder")):
        write_questions(os.path.join(WORK, name), *words)
    try:
        for test in (test_routes, test_routes_that_fail, test_plain_judges, test_self_and_seconds, test_early):
            test()
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    return 1 if failures() else 0


if __name__ == "__main__":
    sys.exit(main())
