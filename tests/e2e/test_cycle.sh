#!/usr/bin/env bash
# The whole cycle with a real model, SmolLM2-135M, through the installed command: distil, be killed, go on, train, reason,
# evaluate, and open the report. The model answers at chance: what is checked is the machinery, not its wisdom.
. "$(dirname "$0")/lib.sh"
need smollm2-135m all-minilm-l6-v2
questions=56 # a critic is not trained on fewer than 50
samples=1
cd "$work" || exit 1
"$source_root/tests/e2e/questions.py" $questions 0 >facts.jsonl
"$source_root/tests/e2e/questions.py" 6 100 >others.jsonl

distill=("$drr" distill --data facts.jsonl --reasoner smollm2-135m --out traces.db --samples $samples --turns 2
    --max-tokens 24 --seed 7)
# traces committed so far, as another process sees them
count() {
    python3 - <<'PY'
import sqlite3
try:
    store = sqlite3.connect("file:traces.db?mode=ro", uri=True)
    print(store.execute("select count(*) from traces").fetchone()[0])
except sqlite3.Error:
    print(0)
PY
}

# --- distil, killed in the middle
"${distill[@]}" >killed.out 2>killed.err &
job=$!
for _ in $(seq 1200); do
    [ "$(count)" -ge 4 ] && break
    kill -0 $job 2>/dev/null || break
    sleep 0.1
done
kill -9 $job 2>/dev/null
wait $job 2>/dev/null
before=$(count)
if [ "$before" -ge 4 ]; then ok "distill commits traces as it goes"; else
    not_ok "distill commits traces as it goes" "$before traces; $(tail -n 3 killed.err)"
fi
expect "the killed store can be read" 0 "$drr" traces export traces.db --out before.jsonl
expect "distill goes on after kill -9" 0 "${distill[@]}"
cp "$work/err" resumed.err
expect "the finished store can be exported" 0 "$drr" traces export traces.db --out after.jsonl
test_that "no trace is lost, changed or doubled" python3 - $questions $samples <<'PY'
import collections, json, sys
n_questions, n_samples = map(int, sys.argv[1:])
def key(t): return t["task"], t["id"], t["sample"], t["turn"]
before, after = ([json.loads(line) for line in open(name)] for name in ("before.jsonl", "after.jsonl"))
kept = {key(t): t["text"] for t in after}
assert len(kept) == len(after), "a trace is doubled"
lost = [key(t) for t in before if kept.get(key(t)) != t["text"]]
assert not lost, f"lost or changed by the kill: {lost}"
fresh = collections.Counter(t["id"] for t in after if t["turn"] == 0)
assert len(fresh) == n_questions and set(fresh.values()) == {n_samples}, f"fresh samples: {fresh}"
labels = collections.Counter(t["label"] for t in after)
for t in after:
    if t["turn"] == 0:
        assert not t.get("feedback"), "a fresh turn with feedback"
    else:
        assert t.get("feedback"), "a retry without the words that rejected the turn before"
assert len(labels) > 1, labels
PY
expect "a third run goes through" 0 "${distill[@]}"
test_that "and generates nothing" grep -q " $questions/$questions samples.* 0 new traces" "$work/err"
test_that "and changes nothing" bash -c "'$drr' traces export traces.db --out again.jsonl && cmp after.jsonl again.jsonl"
expect "traces stats --json" 0 "$drr" traces stats traces.db --json
test_that "counts all of them" json "$work/out" "sum(1 for _ in open('after.jsonl')) == j['traces']"
if grep -q $'\r' resumed.err; then not_ok "progress on a pipe is plain lines" "$(head -c 200 resumed.err)"; else
    ok "progress on a pipe is plain lines"
fi

# --- interrupted by Ctrl-C
distill_other() { # a script's background jobs start with SIGINT ignored
    exec env --default-signal=INT "$drr" distill --data facts.jsonl --reasoner smollm2-135m --out other.db --samples 8 --max-tokens 200 --seed 8
}
(distill_other) >int.out 2>int.err &
job=$!
sleep 5
kill -INT $job 2>/dev/null
wait $job
status=$?
if [ $status -eq 130 ] && grep -qiE 'resume|again|go on' int.err; then ok "Ctrl-C ends cleanly and says how to resume"; else
    not_ok "Ctrl-C ends cleanly and says how to resume" "exit $status: $(tail -n 3 int.err)"
fi

# --- train
expect "train" 0 "$drr" train --traces traces.db --encoder all-minilm-l6-v2 --out critic.gguf --epochs 1 --json
test_that "prints the held-out figures" python3 - "$work/out" $questions <<'PY'
import json, sys
result, n_questions = json.load(open(sys.argv[1])), int(sys.argv[2])
for name in ("auroc_text", "auroc_stack", "auprc", "brier", "ece", "threshold"):
    assert isinstance(result[name], (int, float)) and 0 <= result[name] <= 1, (name, result[name])
assert sum(result[f"n_{part}_questions"] for part in ("train", "dev", "test")) == n_questions, result
assert all(result[f"n_{part}"] >= result[f"n_{part}_questions"] > 0 for part in ("train", "dev", "test")), result
assert result["critic"] == "critic.gguf" and result["best_epoch"] == 1 and result["tokens_per_second"] > 0, result
PY
test_that "writes a GGUF file" bash -c '[ "$(head -c 4 critic.gguf)" = GGUF ]'
test_that "leaves no half-written file" bash -c '! ls | grep -E "\.(part|tmp)"'

# --- reason
run "$drr" reason "Is it true that bees make honey?" --kind boolean --reasoner smollm2-135m --critic critic.gguf --max-turns 2 \
    --turn-tokens 24
cp "$work/out" reason.out
test_that "reason shows its turns, each with the critic's verdict, and the outcome" python3 - "$status" <<'PY'
import re, sys
text = open("reason.out").read()
pattern = r"^attempt (\d)\.(\d) \(\d+ tokens, .*\):\n(?:  .*\n)+-> .*, P\(correct\) [01]\.\d+: (?:accept|reject|abstain)$"
turns = [(int(sample), int(turn)) for sample, turn in re.findall(pattern, text, re.M)]
assert 1 <= len(turns) <= 2 and [sample + turn for sample, turn in turns] == list(range(len(turns))), turns
assert text.count("feedback:\n  ") == sum(turn for _, turn in turns), "a retry without the words that rejected the turn before"
last = text.splitlines()[-1]
said = re.fullmatch(r"(answer: (?:yes|no)|no answer: (?:abstained|unparsed)), P\(correct\) [01]\.\d+ \((\d) turns?, \d+ tokens, .*\)", last)
assert said and int(said[2]) == len(turns), last
assert sys.argv[1] == "0", sys.argv[1]
PY

test_that "without a warning, for the critic is this reasoner's" bash -c "! grep -q 'was trained on answers of' '$work/err'"
ln -s "$cache/models/smollm2-135m.gguf" stranger.gguf
expect "another reasoner is judged all the same" 0 "$drr" reason "Do bees make honey?" --reasoner stranger.gguf --critic critic.gguf \
    --max-turns 1 --turn-tokens 16
test_that "but not without a warning" grep -q "warning: the critic critic was trained on answers of smollm2-135m" "$work/err"

# --- evaluate
expect "eval --json" 0 "$drr" eval --data others.jsonl --reasoner smollm2-135m --critic critic.gguf --out report \
    --samples 2 --max-turns 2 --turn-tokens 24 --json
cp "$work/out" eval.json
test_that "the report has every promised field" python3 - <<'PY'
import json
report = json.load(open("eval.json"))
task = report["tasks"]["others"]
for name in ("cot", "self-critique", "vote", "best-of-n", "drr"):
    strategy = task["strategies"][name]
    for field in ("n", "accuracy", "accuracy_ci", "coverage", "mean_calls", "mean_tokens"):
        assert field in strategy, f"{name} has no {field}"
    assert strategy["n"] == 6 and 0 <= strategy["accuracy"] <= 1 and len(strategy["accuracy_ci"]) == 2, strategy
    low, high = strategy["accuracy_ci"]
    assert low <= strategy["accuracy"] <= high, strategy
for field in ("auroc", "auprc", "brier", "ece", "length_auroc", "vote_auroc"):
    assert field in task["critic"], f"critic has no {field}"
PY
test_that "and lies beside as JSON, text and HTML" test -s report/report.json -a -s report/report.txt -a -s report/report.html
if cp eval.json first.json && run "$drr" eval --data others.jsonl --reasoner smollm2-135m --critic critic.gguf --out report \
    --samples 2 --max-turns 2 --turn-tokens 24 --json && [ "$status" -eq 0 ]; then
    test_that "a second eval generates nothing" grep -q "^0 completions generated" "$work/err"
    test_that "and says the same" python3 - "$work/out" <<'PY'
import json, sys
a, b = (json.load(open(name)) for name in ("first.json", sys.argv[1]))
pick = lambda r: {n: (s["accuracy"], s["mean_tokens"]) for n, s in r["tasks"]["others"]["strategies"].items()}
assert pick(a) == pick(b), (pick(a), pick(b))
PY
else
    not_ok "a second eval" "$(seen)"
fi

# --- open the report, from disk and without a network
test_that "the HTML fetches nothing" bash -c '! grep -oiE "(src|href)=\"?(https?:)?//[^\" >]+|@import|url\((https?:)?//" report/report.html'
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -n "$browser" ]; then
    run timeout 120 "$browser" --headless --no-sandbox --disable-gpu --virtual-time-budget=5000 \
        --user-data-dir="$work/browser" --enable-logging=stderr --host-resolver-rules="MAP * ~NOTFOUND" \
        --dump-dom "file://$work/report/report.html"
    if [ "$status" -eq 0 ] && grep -q '<svg' "$work/out" && grep -q 'self-critique' "$work/out"; then
        ok "Chromium draws the report's plots and table"
    else
        not_ok "Chromium draws the report's plots and table" "$(seen)"
    fi
    if grep -E 'CONSOLE.*(Uncaught|Error)' "$work/err" >"$work/seen"; then
        not_ok "without a script error" "$(head -n 3 "$work/seen")"
    else
        ok "without a script error"
    fi
else
    skip "Chromium opens the report (no Chromium: run tools/setup test-packages)"
fi

# --- the cycle in one command, from the traces that there are
mkdir cycle && cp traces.db cycle/
run "$drr" run --train facts.jsonl --test others.jsonl --reasoner smollm2-135m --encoder all-minilm-l6-v2 --out cycle \
    --distill-samples $samples --samples 2 --max-turns 2 --turn-tokens 24 --epochs 1 --seed 7 --json
if [ "$status" -eq 0 ] && json "$work/out" "j['tasks']['others']['strategies']['drr']['n'] == 6" >/dev/null; then
    ok "run does the whole cycle"
else
    not_ok "run does the whole cycle" "$(seen)"
fi
test_that "and distils nothing twice" grep -q " $questions/$questions samples.* 0 new traces" "$work/err"
test_that "so that the traces stay as they are" bash -c "'$drr' traces export cycle/traces.db --out cycle.jsonl && cmp after.jsonl cycle.jsonl"
finish
