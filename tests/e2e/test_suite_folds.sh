#!/usr/bin/env bash
# A suite that makes its critics itself, one for each fold of the questions: each question is judged by the one critic that never
# saw it, what was trained is kept, and a study that was killed goes on. Recorded answers and an encoder of random weights:
# no model, and the training is real.
. "$(dirname "$0")/lib.sh"
[ -x "$drr" ] || skip_all "there is no command at $drr: run make build"
cd "$work" || exit 1
export PYTHONPATH="$source_root/tests/e2e" PYTHONDONTWRITEBYTECODE=1
questions=$source_root/tests/e2e/questions.py
"$questions" 120 >facts.jsonl
"$questions" 120 --traces recorder >some.replay.jsonl
python3 -c "import tiny_bert; tiny_bert.make('tiny')"

study() { # EPOCHS MORE-OF-THE-CRITIC MORE-OF-DRR
    cat <<TOML
bootstrap = 200

[[data]]
path = "facts.jsonl"
[[reasoner]]
source = "some.replay.jsonl"
[[critic]]
name = "made"
traces = "some.replay.jsonl"
folds = 3
encoder = "tiny"
epochs = $1
max_length = 64
learning_rate = 2e-3
threads = 1
$2
[[strategy]]
strategy = "vote"
samples = 2
[[strategy]]
strategy = "drr"
max_turns = 2
$3
TOML
}
study 2 "" "" >study.toml

# --- what comes out
expect "a suite makes a critic a fold" 0 "$drr" eval --suite study.toml --out one
test_that "three of them, each with its card" bash -c '[ "$(ls one/critics/made.*/fold-[123].gguf one/critics/made.*/fold-[123].card.md | wc -l)" -eq 6 ]'
test_that "each question is there once a strategy, a third of them in each fold" python3 - <<'PY'
import collections, json
rows = [json.loads(line) for line in open("one/questions.jsonl")]
for strategy in ("vote", "drr"):
    own = [r for r in rows if r["strategy"] == strategy]
    assert len(own) == len({r["id"] for r in own}) == 120
    assert collections.Counter(r["fold"] for r in own) == {1: 40, 2: 40, 3: 40}
assert len({(r["id"], r["fold"]) for r in rows}) == 120
PY
test_that "and judged by the critic of its fold, at that critic's threshold" python3 - "$drr" <<'PY'
import glob, json, subprocess, sys
rows = {r["id"]: r for r in map(json.loads, open("one/questions.jsonl")) if r["strategy"] == "drr"}
asked = {json.loads(line)["id"]: line for line in open("facts.jsonl")}
critics = json.load(open("one/report.json"))["parts"]["some.made.s1"]["critic"]["folds"]
for fold in (1, 2, 3):
    with open(f"facts{fold}.jsonl", "w") as out:
        out.writelines(asked[i] for i, r in rows.items() if r["fold"] == fold)
    critic, = glob.glob(f"one/critics/made.*/fold-{fold}.gguf")
    told = subprocess.run([sys.argv[1], "eval", "--data", f"facts{fold}.jsonl", "--reasoner", "some.replay.jsonl", "--critic", critic, "--strategies", "drr",
                           "--max-turns", "2", "--bootstrap", "0", "--json", "--out", f"by{fold}"], capture_output=True, text=True, check=True)
    identity = json.loads(told.stdout)["critic"]
    assert (identity["sha256"], identity["threshold"]) == (critics[fold - 1]["sha256"], critics[fold - 1]["threshold"]), identity
    alone = {r["id"]: r for r in map(json.loads, open(f"by{fold}/questions.jsonl"))}
    assert len(alone) == 40
    for i, r in alone.items():
        assert (r["p_correct"], r["answer"], r["calls"]) == (rows[i]["p_correct"], rows[i]["answer"], rows[i]["calls"]), (r, rows[i])
assert len({c["sha256"] for c in critics}) == 3
PY
test_that "figures pool the folds, and stand beside them" python3 - <<'PY'
import csv, json
task = json.load(open("one/report.json"))["parts"]["some.made.s1"]["tasks"]["facts"]
rows = [r for r in map(json.loads, open("one/questions.jsonl")) if r["strategy"] == "drr"]
assert abs(task["strategies"]["drr"]["accuracy"] - sum(r["correct"] for r in rows) / 120) < 1e-9
table = {int(r["fold"]): r for r in csv.DictReader(open("one/folds.csv", newline=""))}
for f in task["folds"]:
    own = [r for r in rows if r["fold"] == f["fold"]]
    assert f["n"] == len(own) == int(table[f["fold"]]["n"])
    assert abs(f["strategies"]["drr"]["accuracy"] - sum(r["correct"] for r in own) / len(own)) < 1e-9
    assert abs(float(table[f["fold"]]["strategies_drr_accuracy"]) - f["strategies"]["drr"]["accuracy"]) < 1e-9
assert task["critic"]["sets"]["given"]["n"] > 0
PY
test_that "the page says what judged" grep -q "critic made, one for each of 3 folds" one/report.html

# --- kept, gone on with
stamp() { stat -c "%n %Y %s" "$1"/critics/made.*/fold-*.gguf; }
stamp one >before
expect "run again" 0 "$drr" eval --suite study.toml --out one
test_that "it does nothing twice" grep -q "finished before" "$work/err"
sed 's/^samples = 2/samples = 1/' study.toml >other.toml
expect "another policy" 0 "$drr" eval --suite other.toml --out one
test_that "trains nothing again" bash -c '! grep -q "training" "$1"' - "$work/err"
stamp one >after
test_that "and leaves the critics alone" cmp before after
study 3 "" "" >longer.toml
expect "critics of other settings" 0 "$drr" eval --suite longer.toml --out one
test_that "stand beside them" bash -c '[ "$(ls -d one/critics/made.* | wc -l)" -eq 2 ]'
rm -rf two
"$drr" eval --suite study.toml --out two >/dev/null 2>killed.err &
job=$!
for _ in $(seq 6000); do
    ls two/critics/made.*/fold-1.gguf >/dev/null 2>&1 && break
    kill -0 $job 2>/dev/null || break
    sleep 0.01
done
kill -9 $job 2>/dev/null
wait $job 2>/dev/null
test_that "killed behind the first fold, there is no other" bash -c 'ls two/critics/made.*/fold-1.gguf && ! ls two/critics/made.*/fold-3.gguf && ! ls two/report.json'
expect "it goes on" 0 "$drr" eval --suite study.toml --out two
test_that "without the first fold" bash -c '! grep -q "fold 1 of 3: training" "$1" && grep -q "fold 3 of 3: training" "$1"' - "$work/err"
rm -rf one/parts # made from other policies meanwhile
expect "beside an undisturbed one" 0 "$drr" eval --suite study.toml --out one
test_that "with every P(correct) alike" python3 - <<'PY'
import json
def rows(study):
    return {(r["strategy"], r["id"]): (r["p_correct"], r["answer"], r["fold"]) for r in map(json.loads, open(study + "/questions.jsonl"))}
assert rows("one") == rows("two")
PY

# --- what a critic knows: the labels of one fold are turned round, which that fold's own critic must not notice
python3 - <<'PY'
import json
fold = {r["id"]: r["fold"] for r in map(json.loads, open("one/questions.jsonl"))}
with open("turned.jsonl", "w") as out:
    for t in map(json.loads, open("some.replay.jsonl")):
        out.write(json.dumps(dict(t, correct=t["correct"] != (fold[t["id"]] == 2))) + "\n")
PY
sed 's/^traces.*/traces = "turned.jsonl"/' study.toml >turned.toml
expect "traces of which one fold's labels are turned round" 0 "$drr" eval --suite turned.toml --out turned
test_that "change the other folds' critics alone" python3 - <<'PY'
import json
def rows(study):
    return {r["id"]: r for r in map(json.loads, open(study + "/questions.jsonl")) if r["strategy"] == "drr"}
one, turned = rows("one"), rows("turned")
assert all(one[i]["fold"] == turned[i]["fold"] for i in one)
same = {fold: sum(one[i]["p_correct"] == turned[i]["p_correct"] for i in one if one[i]["fold"] == fold) for fold in (1, 2, 3)}
assert same[2] == 40 and same[1] < 10 and same[3] < 10, same
PY

# --- before the first token, fold by fold
study 1 "with_question_critic = true" $'sure_above = 0.6\nparallel_below = 0.6' >ways.toml
expect "critics of questions are made a fold, too" 0 "$drr" eval --suite ways.toml --out ways
test_that "and say which way each question went" python3 - <<'PY'
import collections, json
drr = json.load(open("ways/report.json"))["parts"]["some.made.s1"]["tasks"]["facts"]["strategies"]["drr"]
rows = [r for r in map(json.loads, open("ways/questions.jsonl")) if r["strategy"] == "drr"]
ways = collections.Counter(r["route"] for r in rows)
assert sum(ways.values()) == 120 and set(ways) <= {"once", "parallel"}, ways
for way, f in drr["routes"].items():
    own = [r for r in rows if r["route"] == way]
    assert f == {"n": len(own), "n_right": sum(r["correct"] for r in own), "tokens": sum(r["tokens"] for r in own)}, (way, f)
assert all((r["p_question"] >= 0.6) == (r["route"] == "once") for r in rows)
PY
test_that "in words as well" grep -q "Of the questions of drr, by the question alone, " ways/report.md
test_that "by critics of questions" bash -c '[ "$(ls ways/critics/made.*/question-[123].gguf | wc -l)" -eq 3 ]'

study 1 "" "" >plain.toml
expect "a study without them" 0 "$drr" eval --suite plain.toml --out toggled
study 1 $'with_question_critic = true\nbeginnings = 1' "" >asked.toml
expect "and with them" 0 "$drr" eval --suite asked.toml --out toggled
test_that "is another part" bash -c '! grep -q "finished before" "$1" && grep -q "\"route\":\"sequence\"" toggled/questions.jsonl' - "$work/err"

# --- what cannot be
refuses() { # WHAT WORDS: of wrong.toml, before anything is written
    run "$drr" eval --suite wrong.toml --out refused
    if [ "$status" -eq 1 ] && grep -q -- "$2" "$work/err" && [ ! -e refused ]; then ok "$1"; else not_ok "$1" "wanted \"$2\"" "$(seen)"; fi
}
sed '/^folds/d' study.toml >wrong.toml
refuses "traces without folds" "wrong.toml:7: .*needs folds = K"
sed 's/^traces.*/path = "made.gguf"/' study.toml >wrong.toml
refuses "folds of a critic that is there" "wrong.toml:1[0-5]: [a-z_]* is of a critic that is made here"
sed 's/^folds = 3/folds = 1/' study.toml >wrong.toml
refuses "one fold" "wrong.toml:10: .*from 2 to 20"
sed 's/^max_length = 64/max_length = 64\ndev_share = 0.7/' study.toml >wrong.toml
refuses "a dev share that leaves nothing" "wrong.toml:7: .*dev share"
"$questions" 20 500 >unknown.jsonl
sed 's/facts.jsonl/unknown.jsonl/' study.toml >wrong.toml
refuses "a data set without traces" "wrong.toml:7: .*no trace of any of the 20 questions of unknown"
cat facts.jsonl unknown.jsonl >both.jsonl
"$questions" 20 500 --traces recorder | cat some.replay.jsonl - >both.replay.jsonl
sed -e 's/facts.jsonl/both.jsonl/' -e 's/^source = .*/source = "both.replay.jsonl"/' study.toml >some.toml
expect "some questions without traces" 0 "$drr" eval --suite some.toml --out some
test_that "are told of" grep -q "20 of 140 questions of both (q500 the first) have no trace" "$work/err"
sed 's/^max_turns = 2/max_turns = 2\nsure_above = 0.5/' study.toml >wrong.toml
refuses "bounds without a critic of questions" "with_question_critic"
finish
