#!/usr/bin/env python3
"""The critic as a judge for others, through `drr serve`: the scores of each route are those of `drr critic score`, and llama-server's
on the same file where there is one; requests at once change nothing; a new critic on SIGHUP mixes nothing; what cannot be scored is
refused by field; /metrics and /props tell what happened."""
import collections
import concurrent.futures
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
from serving import Process, Served, Upstream, chat, environment, free_port, is_error, missing, request  # noqa: E402
from checks import DRR, ROOT, check, failures, write_questions  # noqa: E402
import tiny_bert  # noqa: E402

WORK = tempfile.mkdtemp(prefix="drr-e2e.")
QUESTIONS = ["What is two and two?", "Is ice cold?", "Which is larger, 7 or 9?"]
TEXTS = ["Two and two are four.\nAnswer: 4", "", "Answer: 5", "it is cold: yes", "9 is more than 7, so 9 " * 12, "(a) b, c: d's - e.",
         "no", "Answer: 22"]
ASKED = {"type": "predicate", "instructions": "Is the answer correct?"}


def at(name):
    return os.path.join(WORK, name)


def train(name, seed):
    """A critic that has learnt enough of nothing in particular for its scores to differ by more than roundings."""
    encoder, traces, critic = at(f"{name}.encoder"), at(f"{name}.jsonl"), at(f"{name}.gguf")
    tiny_bert.make(encoder, seed=seed, spread=.3, positions=256, layers=1)
    write_questions(traces, "60", "0", "--traces", "first")
    done = subprocess.run([DRR, "train", "--traces", traces, "--encoder", encoder, "--out", critic, "--epochs", "12", "--batch", "8", "--learning-rate",
                           "0.002", "--keep-last", "--max-length", "256", "--dev-share", ".2", "--test-share", ".2", "--seed", str(seed)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment())
    if done.returncode:
        raise RuntimeError(f"the critic could not be trained: {done.stdout[-2000:]}")
    return critic


def known_scores(critic):
    """{(question, text): (logit, p)} as the command says them."""
    pairs = [(q, t) for q in QUESTIONS for t in TEXTS]
    with open(at("pairs.jsonl"), "w") as file:
        file.writelines(json.dumps({"question": q, "text": t}) + "\n" for q, t in pairs)
    done = subprocess.run([DRR, "critic", "score", "--critic", critic, "--in", at("pairs.jsonl"), "--out", at("scored.jsonl")],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment())
    if done.returncode:
        raise RuntimeError(done.stdout)
    with open(at("scored.jsonl")) as file:
        rows = [json.loads(line) for line in file]
    return {(row["question"], row["text"]): (row["logit"], row["p_correct"]) for row in rows}


def post(served, path, body, **more):
    return request(served.port, "POST", path, body, **more)


def near(a, b, how=1e-4):
    return abs(a - b) < how


# ---- the routes

def check_rerank(served, known):
    question = QUESTIONS[0]
    body = {"model": "any", "query": question, "documents": TEXTS}
    code, headers, seen = post(served, "/v1/rerank", body)
    rows = seen["results"]
    check("rerank: the logits of drr critic score", code == 200 and
          all(near(row["relevance_score"], known[question, TEXTS[row["index"]]][0]) for row in rows), seen)
    scores = [row["relevance_score"] for row in rows]
    check("best first, each document once", scores == sorted(scores, reverse=True) and
          sorted(row["index"] for row in rows) == list(range(len(TEXTS))), rows)
    check("usage, model, id and the critic's name", seen["usage"]["prompt_tokens"] == seen["usage"]["total_tokens"] > 8 * len(TEXTS) and
          seen["model"] == "any" and seen["object"] == "list" and "@" in headers.get("x-drr-dm", ""), seen, headers)
    same = [post(served, path, body)[2]["results"] for path in ("/rerank", "/reranking", "/v1/reranking", "/v2/rerank")]
    check("all its names answer the same", all([r["index"] for r in other] == [r["index"] for r in rows] for other in same), same)
    code, _, tei = post(served, "/rerank", {"query": question, "texts": TEXTS, "return_text": True, "top_n": 3})
    check("as TEI: a bare list with the texts", code == 200 and isinstance(tei, list) and len(tei) == 3 and
          all(near(row["score"], scores[i]) and row["text"] == TEXTS[row["index"]] for i, row in enumerate(tei)), tei)
    return {row["index"]: row["relevance_score"] for row in rows}, seen["usage"]


def check_others(served, known):
    question, text = QUESTIONS[1], TEXTS[3]
    logit, p = known[question, text]
    for path in ("/v1/classify", "/classify"):
        code, _, seen = post(served, path, {"input": [f"{question}[SEP]{text}", f"Question: {question}\nAnswer: {text}"]})
        check(f"{path}: P(correct) twice, and a label", code == 200 and [near(row["probs"][0], p) and near(sum(row["probs"]), 1) and
              row["label"] in ("accept", "reject") for row in seen["data"]] == [True, True], seen, p)
    for path in ("/v1/score", "/score"):
        code, _, seen = post(served, path, {"model": "m", "queries": question, "documents": TEXTS})
        check(f"{path}: P(correct) of each", code == 200 and all(near(row["score"], known[question, t][1])
              for row, t in zip(seen["data"], TEXTS, strict=True)), seen)
    code, _, seen = post(served, "/v1/decisions", {"model": "drr", "input": text, "questions": [
        {"type": "predicate", "instructions": question, "name": "right"}]})
    check("/v1/decisions: the instructions are the question", code == 200 and near(seen["answers"][0]["probability"], p) and
          seen["answers"][0]["name"] == "right" and seen["usage"]["input_tokens"] > 0, seen)
    code, _, seen = post(served, "/v1/decisions", {"model": "drr", "questions": [ASKED], "input": [
        {"role": "user", "content": question}, {"role": "user", "content": [{"type": "input_text", "text": text}]}]})
    check("/v1/decisions: or the input has it, and the instructions ask for what the critic knows",
          code == 200 and near(seen["answers"][0]["probability"], p), seen)
    code, _, seen = post(served, "/v1/systemone", {"model": "jev", "state": {"question": question, "answer": text}, "questions": {
        "ok": {"type": "noul", "instructions": "Is the answer correct?"}}})
    check("/v1/systemone: the same as noul", code == 200 and near(seen["answers"]["ok"]["noul"], p) and
          seen["usage"] == {"input_tokens": seen["usage"]["input_tokens"], "output_tokens": 0}, seen)
    code, _, seen = post(served, "/get_reward", {"query": [question + text], "prompts": [question], "labels": ["?"]})
    check("/get_reward: the logit is the reward, P(correct) the score", code == 200 and near(seen["rewards"][0], logit) and
          near(seen["scores"][0], p), seen)


def check_refusals(served):
    for path, body, param in (
            ("/v1/rerank", {"query": "a", "documents": []}, "documents"),
            ("/rerank", {"query": "a", "documents": ["a", 1]}, "documents[1]"),
            ("/v2/rerank", b'{"query": "a", "documents": ["a", "\xff"]}', "documents[1]"),
            ("/v1/rerank", {"query": "a", "documents": ["a"] * 10001}, "documents"),
            ("/v1/score", {"queries": ["a", "b"], "documents": ["x"]}, "documents"),
            ("/classify", {"input": "one text"}, "input"),
            ("/v1/decisions", {"model": "m", "input": "a", "questions": [ASKED]}, "input"),
            ("/v1/decisions", {"model": "m", "input": "a[SEP]b", "questions": [ASKED, {"type": "score", "instructions": "?", "levels": []}]},
             "questions[1]"),
            ("/v1/systemone", {"state": ["a", "b"], "questions": {"x": {"type": "choice", "criteria": {"y": None}}}}, "questions.x")):
        code, _, seen = post(served, path, body)
        check(f"{path}: a 400 that names {param}", code == 400 and is_error(seen, "invalid_request_error") and
              seen["error"]["param"] == param, code, seen)
    code, _, seen = post(served, "/v1/rerank", '{"query": ' + "[" * 3000)
    check("deep JSON is refused", code == 400 and is_error(seen), code, seen)


def check_at_once(served, known):
    """Large and small requests from many threads: each score is its text's own."""
    def one(number):
        question = QUESTIONS[number % len(QUESTIONS)]
        documents = [TEXTS[(number + i) % len(TEXTS)] for i in range(400 if number % 8 == 0 else 1 + number % 5)]
        began = time.monotonic()
        code, _, seen = post(served, "/v1/rerank", {"query": question, "documents": documents})
        wrong = code != 200 or len(seen["results"]) != len(documents) or any(
            not near(row["relevance_score"], known[question, documents[row["index"]]][0]) for row in seen["results"])
        return wrong, len(documents), time.monotonic() - began
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        done = list(pool.map(one, range(240)))
    check("240 requests, 24 at once: each score is its text's own", not any(wrong for wrong, _, _ in done), done[:4])
    texts, batches = served.metric("drr_dm_texts_total"), served.metric("drr_dm_batch_texts_count")
    check("and they were scored in common batches", batches < texts / 4, texts, batches)


# ---- a new critic while requests run

def check_swap(served, path, other, known):
    known = {"one": known, "two": known_scores(other)}
    seen, stop, failed = collections.Counter(), threading.Event(), []

    def ask():
        while not stop.is_set():
            code, headers, got = post(served, "/v1/rerank", {"query": QUESTIONS[0], "documents": TEXTS * 5})
            fits = [name for name, scores in known.items() if code == 200 and all(
                near(row["relevance_score"], scores[QUESTIONS[0], (TEXTS * 5)[row["index"]]][0]) for row in got["results"])]
            if len(fits) == 1:
                seen[fits[0], headers["x-drr-dm"]] += 1
            else:
                failed.append((code, got if code != 200 else fits))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(.5)
    os.replace(other, path)
    served.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 20
    while time.monotonic() < end and not any(name == "two" for name, _ in seen):
        time.sleep(.05)
    time.sleep(.3)
    stop.set()
    for thread in threads:
        thread.join()
    check("SIGHUP takes the new critic without failing or mixing a request", not failed and {name for name, _ in seen} == {"one", "two"},
          dict(seen), failed[:3])
    check("and each reply names the one that judged", len({dm for _, dm in seen}) == 2 == len(seen), dict(seen))
    with open(path, "wb") as file:
        file.write(b"no critic")
    served.process.send_signal(signal.SIGHUP)
    time.sleep(1)
    code, headers, _ = post(served, "/v1/rerank", {"query": "a", "documents": ["b"]})
    check("a file that is no critic changes nothing", code == 200 and ("two", headers.get("x-drr-dm")) in seen, code, headers)


# ---- what the server tells of itself

def check_metrics(served):
    text = request(served.port, "GET", "/metrics", parse=False)[2]
    wanted = ["drr_requests_total", "drr_turns_total", "drr_turns_per_request", "drr_dm_score", "drr_dm_seconds", "drr_request_seconds",
              "drr_upstream_seconds", "drr_upstream_requests_total", "drr_upstream_retries_total", "drr_upstream_tokens_total",
              "drr_requests_in_flight", "drr_build_info", "drr_drift_alarm"]
    check("/metrics has the families of the contract", all(f"# TYPE {name} " in text for name in wanted),
          [name for name in wanted if f"# TYPE {name} " not in text])


def check_drift(served):
    request(served.port, "POST", "/v1/chat/completions", chat("What of nonce-drift-1?", drr={"threshold": 0}))
    props = request(served.port, "GET", "/props")[2]
    drift = props.get("drift") or {}
    check("/props tells of drift: the upstream's model is not the critic's reasoner", drift.get("alarm") is True and
          drift["model"]["alarm"] is True and drift["model"]["upstream"] and drift["scores"]["alarm"] is False, props)
    check("training left the distribution of dev's scores to compare with", drift.get("known") is True and
          drift["scores"]["n_trained"] >= 20, drift)
    check("so does the log", "drift: the upstream's model" in served.said(), served.said()[-600:])
    check("and a metric", served.metric("drr_drift_alarm", kind="model") == 1 and served.metric("drr_drift_alarm", kind="scores") == 0)


# ---- beside llama.cpp

def check_llama(critic, ours, usage):
    prefix = subprocess.run([os.path.join(ROOT, "tools", "setup"), "--offline", "prefix"], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True).stdout.strip()
    program = os.environ.get("DRR_LLAMA_SERVER") or os.path.join(prefix, "build", "bin", "llama-server")
    if not os.access(program, os.X_OK):
        return print("skip - llama-server beside us: tools/setup llama-tools builds it")
    port = free_port()
    with Process([program, "-m", critic, "--reranking", "--host", "127.0.0.1", "--port", str(port), "-np", "1", "-c", "512", "-b", "512",
                  "-ub", "512", "--flash-attn", "off"], at("llama.log"), stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL) as process:
        end, ready = time.monotonic() + 60, False
        while time.monotonic() < end and process.alive() and not ready:
            try:
                ready = request(port, "GET", "/health", seconds=5)[0] == 200
            except OSError:
                pass
            time.sleep(.1)
        if not ready:
            return check("llama-server starts with the critic", False, process.said()[-800:])
        code, _, seen = request(port, "POST", "/v1/rerank", {"model": "any", "query": QUESTIONS[0], "documents": TEXTS})
    theirs = {row["index"]: row["relevance_score"] for row in seen.get("results", [])}
    check("llama-server answers", code == 200, seen, process.said()[-800:])
    # its GELU is a table of half precision: docs/model.md
    check("llama-server gives the same logits for the same file", code == 200 and
          all(near(theirs.get(i, 1e9), ours[i], 1e-2) for i in ours), theirs, ours)
    check("and counts the same tokens", seen.get("usage") == usage, seen.get("usage"), usage)


def main():
    why = missing()
    if why:
        print(why)
        return 77
    critic, other = train("one", 1), train("two", 2)
    known = known_scores(critic)
    logits = sorted(logit for logit, _ in known.values())
    check("the critic tells texts apart", logits[-1] - logits[0] > .5, logits)
    with Upstream(at("upstream.log")) as upstream, \
            Served(at("serve.log"), "--upstream", upstream.url, "--critic", critic, "--metrics") as served:
        ours, usage = check_rerank(served, known)
        check_others(served, known)
        check_refusals(served)
        check_at_once(served, known)
        check_metrics(served)
        check_drift(served)
        kept = shutil.copy(critic, at("kept.gguf"))
        check_swap(served, critic, other, known)
        check("SIGTERM ends it well", served.stop() == 0, served.said()[-600:])
    check_llama(kept, ours, usage)
    return 1 if failures() else 0


if __name__ == "__main__":
    try:
        code = main()
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    sys.exit(code)
