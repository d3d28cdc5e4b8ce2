#!/usr/bin/env bash
# Seeds, folds and a search through the installed command: each killed with kill -9 and gone on with, to the end that an undisturbed
# one has; and discrimination within a question in training and evaluation. Recorded answers stand in for a model, distilled
# into a store; the training is real.
. "$(dirname "$0")/lib.sh"
need all-minilm-l6-v2
cd "$work" || exit 1
questions=$source_root/tests/e2e/questions.py
"$questions" 120 >data.jsonl
"$questions" 140 --traces recorder >some.replay.jsonl
"$questions" 20 120 >asked.jsonl
expect "distil recorded answers" 0 "$drr" distill --data data.jsonl --reasoner some.replay.jsonl --out store.db --samples 2 --turns 1
train=("$drr" train --traces store.db --seed 3 --epochs 1 --max-length 64)

# refuses WHAT STATUS WORD OPTION...: one sentence with the word in it, and nothing made
refuses() {
    local what=$1 want=$2 word=$3
    shift 3
    run "${train[@]}" --out refused.gguf "$@"
    if [ "$status" -eq "$want" ] && grep -q -- "$word" "$work/err" && ! ls | grep -q refused; then ok "$what"; else
        not_ok "$what" "wanted exit $want and \"$word\"" "$(seen)" "$(ls | grep refused)"
    fi
}
refuses "one fold leaves nothing to train on" 2 "at least 2" --folds 1
refuses "two folds and a large dev share neither" 1 "dev share" --folds 2 --dev-share 0.45
refuses "a search takes a duration" 2 "not \"soon\"" --search soon
refuses "and not nothing" 2 "not \"0\"" --search 0
refuses "a search and folds do not go together" 2 "search first" --search 1 --folds 3
refuses "nor a search and seeds" 2 "search first" --search 1 --seeds 3

# killed_behind FILE LINES COMMAND...: kills the command with -9 as soon as the file has so many lines
killed_behind() {
    local file=$1 lines=$2
    shift 2
    "$@" >killed.out 2>killed.err &
    local job=$!
    for _ in $(seq 3000); do
        [ "$(cat "$file" 2>/dev/null | wc -l)" -ge "$lines" ] && break
        kill -0 $job 2>/dev/null || break
        sleep 0.02
    done
    kill -9 $job 2>/dev/null
    wait $job 2>/dev/null
    [ "$(cat "$file" 2>/dev/null | wc -l)" -ge "$lines" ]
}

# --- folds and seeds
expect "two folds with two seeds" 0 "${train[@]}" --folds 2 --seeds 2 --out whole.gguf --json
cp "$work/out" whole.json
test_that "each question is tested once a seed, with means and deviations" python3 - <<'PY'
import json, statistics
j = json.load(open("whole.json"))
r = j["repeats"]
runs = r["runs"]
assert [(x["fold"], x["seed"]) for x in runs] == [(1, 3), (1, 4), (2, 3), (2, 4)], runs
assert sum(x["n_test_questions"] for x in runs) == 240 and all(x["n_test"] == 2 * x["n_test_questions"] for x in runs), runs
for name in ("auroc_text", "auroc_stack", "within_stack", "log_loss", "ece"):
    values = [x[name] for x in runs]
    assert all(0 <= v for v in values), (name, values)
    assert abs(r["mean"][name] - statistics.mean(values)) < 1e-9, name
    assert abs(r["sd"][name] - statistics.stdev(values)) < 1e-9, name
    assert r["sd_seeds"][name] >= 0 and r["sd_folds"][name] >= 0, name
w = j["within_stack"]
assert w["ci"][0] <= w["share"] <= w["ci"][1] and w["n_pairs"] >= w["n_questions"] > 0, w
assert j["n_test_questions"] == 18 and set(j) >= {"within_text", "within_length", "within_vote"}, j
PY
test_that "the card has them too" grep -q "^## Seeds and folds" whole.card.md
test_that "and discrimination within a question" grep -q "^### Within a question" whole.card.md
if killed_behind cut.gguf.runs 3 "${train[@]}" --folds 2 --seeds 2 --out cut.gguf --json; then ok "two runs, then kill -9"; else
    not_ok "two runs, then kill -9" "$(tail -n 3 killed.err)"
fi
cp cut.gguf.runs before.runs
expect "other folds do not go on from there" 1 "${train[@]}" --folds 3 --seeds 2 --out cut.gguf --resume
expect "the same command with --resume does" 0 "${train[@]}" --folds 2 --seeds 2 --out cut.gguf --json --resume
cp "$work/out" cut.json
test_that "it does only what was not done" bash -c "grep -q 'going on from cut.gguf.runs: 2 runs' '$work/err' && [ \$(grep -c '^run [0-9]* of 4' '$work/err') -eq 2 ]"
test_that "and ends with the same figures" python3 - <<'PY'
import json
a, b = (json.load(open(name)) for name in ("whole.json", "cut.json"))
for run in a["repeats"]["runs"] + b["repeats"]["runs"]:
    del run["seconds"]
assert a["repeats"] == b["repeats"], (a["repeats"], b["repeats"])
assert a["auroc_stack"] == b["auroc_stack"] and a["within_text"] == b["within_text"]
PY
test_that "nothing is left but critics and cards" bash -c '! ls | grep -E "runs$|checkpoint$|tmp" | grep -v before.runs'
expect "seeds alone, as a table" 0 "${train[@]}" --seeds 2 --out seeds.gguf
test_that "with each run, mean, deviation and what the critic is" bash -c "grep -q '^usual  *3 ' '$work/out' && grep -q '^usual  *4 ' '$work/out' &&
    grep -q '^mean ' '$work/out' && grep -q '^deviation ' '$work/out' && grep -q 'The critic is the first of these' '$work/out' && grep -q 'within-question' '$work/out'"

# --- search
if killed_behind found.gguf.trials 3 "${train[@]}" --search 10m --out found.gguf --json; then ok "two trials, then kill -9"; else
    not_ok "two trials, then kill -9" "$(tail -n 3 killed.err)"
fi
cp found.gguf.trials before.trials
seconds=$(python3 -c 'import json; print(10 + round(2.5 * sum(json.loads(line).get("seconds", 0) for line in open("before.trials"))))')
expect "the search goes on, for another time" 0 "${train[@]}" --search "${seconds}s" --out found.gguf --json --resume
cp "$work/out" found.json
test_that "from where it was" grep -q "going on from found.gguf.trials: 2 trials" "$work/err"
test_that "with the trials it had, a winner on dev, and its test figures" python3 - "$seconds" <<'PY'
import json, sys
j = json.load(open("found.json"))
s = j["search"]
before = [json.loads(line) for line in open("before.trials")][1:]
trials = s["trials"]
assert len(before) == 2 and len(trials) > 2, trials
for old, new in zip(before, trials):
    assert all(old[k] == new[k] for k in new), (old, new)
assert trials[0]["settings"] == 1 and trials[0]["learning_rate"] == 5e-05 and trials[0]["epochs"] == 1, trials[0]
w = trials[s["winner"]]
done = [t for t in trials if t["kind"] and t["rung"] == w["rung"]]
assert len(done) >= 2 and w[w["kind"]]["log_loss"] == min(t[t["kind"]]["log_loss"] for t in done), (w, done)
assert s["n_dev_questions"] == 24 and s["budget_seconds"] == int(sys.argv[1]) and s["rungs"] == 2, s
assert j["n_test_questions"] == 18 and 0 <= j["auroc_text"] <= 1 and j["text_alone"] == (w["kind"] == "text"), j
PY
test_that "and leaves no trials behind" [ ! -e found.gguf.trials ]
test_that "the card has the table" grep -q "^## Search" found.card.md
expect "a search shows its time, table and winner" 0 "${train[@]}" --search 20s --out short.gguf
test_that "to people too" bash -c "grep -q 'search [0-9]*/20 s.*left.*trial 1: settings 1' '$work/err' && grep -q 'as given' '$work/out' && grep -q 'for the first time the test questions' '$work/out' && grep -q 'held-out AUROC' '$work/out'"

# --- evaluation
expect "eval with several samples" 0 "$drr" eval --data asked.jsonl --reasoner some.replay.jsonl --critic whole.gguf --out report \
    --strategies best-of-n,drr --samples 2 --json
test_that "has discrimination within a question, with its controls" json "$work/out" \
    "(lambda s, f: s['within']['n_pairs'] > 0 and 0 <= s['within']['share'] <= 1 and s['within_vote']['n_pairs'] == s['within']['n_pairs'] and f['within'] is None)(j['tasks']['asked']['critic']['sets']['samples'], j['tasks']['asked']['critic']['sets']['first'])"
test_that "in the table as well" grep -q "Within a question (all samples, with others known)" report/report.txt
finish
