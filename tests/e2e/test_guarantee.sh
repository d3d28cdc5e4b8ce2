#!/usr/bin/env bash
# A promised error, from `drr train --target-error` to `drr reason --guaranteed`: found, stored, shown, kept to, refused where it
# cannot be; and the card beside the critic. Recorded answers stand in for a model; the training is real.
. "$(dirname "$0")/lib.sh"
need all-minilm-l6-v2
cd "$work" || exit 1
questions=$source_root/tests/e2e/questions.py
"$questions" 240 --traces recorder >all.jsonl
python3 - <<'PY'
import json
lines = [json.loads(line) for line in open("all.jsonl")]
with open("two.jsonl", "w") as two:
    for t in lines:
        t["task"] = "others" if int(t["id"][1:]) % 3 == 0 else "questions"
        two.write(json.dumps(t) + "\n")
with open("wrong.jsonl", "w") as wrong:  # every answer wrong
    for t in lines:
        t["correct"] = False
        wrong.write(json.dumps(t) + "\n")
PY
"$questions" 20 300 >asked.jsonl
{ cat all.jsonl; "$questions" 20 300 --traces recorder; } >some.replay.jsonl
train=("$drr" train --encoder all-minilm-l6-v2 --seed 3)

# refuses WHAT "WORD WORD..." OPTION...: exit 1, one sentence with each word in it, and no critic
refuses() {
    local what=$1 words=$2 word last
    shift 2
    run "${train[@]}" --out refused.gguf "$@"
    last=$(tail -n 1 "$work/err")
    [ "$status" -eq 1 ] || { not_ok "$what" "wanted exit 1" "$(seen)"; return; }
    for word in $words; do
        case $last in *"$word"*) ;; *) not_ok "$what" "\"$word\" is not in: $last"; return ;; esac
    done
    if ls | grep -q refused; then not_ok "$what" "left behind: $(ls | grep refused)"; else ok "$what: $last"; fi
}
refuses "an error of 0 cannot be promised" "target error 0 between" --traces all.jsonl --target-error 0
refuses "nor one of 1" "target error 1 between" --traces all.jsonl --target-error 1
refuses "nor with a delta of 0" "delta 0 between" --traces all.jsonl --target-error 0.1 --delta 0
refuses "nor with one of 1.5" "delta 1.5 between" --traces all.jsonl --target-error 0.1 --delta 1.5
refuses "too few questions say how many it takes" "48 questions too few 0.01 0.1 230 observed error" --traces all.jsonl --target-error 0.01
refuses "shares that leave nothing to train on" "guarantee share" --traces all.jsonl --target-error 0.2 --guarantee-share 0.8
refuses "traces of one class" "all wrong right" --traces wrong.jsonl --target-error 0.2
refuses "one task alone cannot be left out" "one task questions" --traces all.jsonl --leave-one-task-out

expect "a critic with a promise, and each task left out in turn" 0 "${train[@]}" --traces two.jsonl --out made.gguf --epochs 4 \
    --target-error 0.25 --delta 0.1 --guarantee-share 0.25 --leave-one-task-out --json
cp "$work/out" made.json
test_that "the figures are there, each in its range" python3 - <<'PY'
import json
j = json.load(open("made.json"))
assert j["n_guarantee_questions"] == 60, j["n_guarantee_questions"]
assert j["n_train_questions"] + j["n_dev_questions"] + j["n_test_questions"] == 180, j
for part in ("text_calibration", "stack_calibration"):
    c = j[part]
    assert c["picked"] in c["dev_log_loss"], c
    assert all(0 <= c[when][f] for when in ("before", "after") for f in ("log_loss", "brier", "ece")), c
assert set(j["tasks"]) == {"questions", "others"}, j["tasks"]
for t in j["tasks"].values():
    assert 0 <= t["auroc_stack"] <= 1 and 0 <= t["auroc_left_out"] <= 1, t
assert [g["turns"] for g in j["guarantees"]] == [1, 2], j["guarantees"]
for g in j["guarantees"]:
    assert g["found"] and g["p_value"] <= 0.1 and g["bound"] <= 0.25 and g["n"] == 60, g
    assert g["n_wrong"] <= g["n_accepted"] <= 60 and g["n_test_wrong"] <= g["n_test_accepted"] <= g["n_test"] == 36, g
assert j["threshold"] == j["guarantees"][1]["threshold"], j["threshold"]
PY
test_that "the card lies beside it, with its plot" bash -c 'grep -q "^## Guarantee" made.card.md && grep -q "^### Leave one task out" made.card.md &&
    grep -q "within 2 fresh turns" made.card.md && python3 -c "import xml.dom.minidom as x; x.parse(\"made.card.svg\")"'
test_that "the card names the critic's file" grep -q "$(sha256sum made.gguf | cut -c 1-64)" made.card.md
expect "critic show" 0 "$drr" critic show made.gguf --json
test_that "shows both promises" json "$work/out" "[g['turns'] for g in j['guarantees']] == [1, 2] and all(g['found'] for g in j['guarantees'])"
cp "$work/out" shown.json
expect "critic verify" 0 "$drr" critic verify --critic made.gguf --json
test_that "finds it whole, as its card and its stored texts say" json "$work/out" \
    "j['good'] and [(f['what'], f['outcome']) for f in j['findings']] == [('file', 'good'), ('card', 'good'), ('probes', 'good')]"
expect "critic export" 0 "$drr" critic export --critic made.gguf --to made-hf
expect "critic verify --against its export" 0 "$drr" critic verify --critic made.gguf --against made-hf
test_that "says OK" grep -qx 'made.gguf: OK' "$work/out"
expect "critic import" 0 "$drr" critic import made-hf --out back.gguf
expect "critic verify --against what came back" 0 "$drr" critic verify --critic made.gguf --against back.gguf
python3 - <<'PY' # one weight of the head
import shutil, struct
shutil.copy("made.gguf", "bent.gguf")
shutil.copy("made.card.md", "bent.card.md")
with open("bent.gguf", "r+b") as file:
    file.seek(-32, 2)
    file.write(struct.pack("<f", 3.5))
PY
expect "a critic with another weight is wrong" 1 "$drr" critic verify --critic bent.gguf --against made-hf --json
test_that "say card, stored texts and export" json "$work/out" \
    "not j['good'] and [f['what'] for f in j['findings'] if f['outcome'] == 'wrong'] == ['card', 'probes', 'against']"
test_that "in a sentence that names the file" grep -q '^drr: bent.gguf: its SHA-256 is' "$work/err"
head -c 100000 made.gguf >cut.gguf
expect "a critic that is cut short is wrong" 1 "$drr" critic verify --critic cut.gguf
test_that "and the sentence names it" grep -q '^drr: cut.gguf: ' "$work/err"
expect "a critic that is not there is an error" 1 "$drr" critic verify --critic absent.gguf
expect "verify without a critic is put wrongly" 2 "$drr" critic verify
expect "what comes back" 0 "$drr" critic show back.gguf --json
test_that "is the same critic, promises and all" json "$work/out" \
    "{k: v for k, v in j.items() if k != 'sha256'} == {k: v for k, v in __import__('json').load(open('shown.json')).items() if k != 'sha256'}"
head -n 3 all.jsonl >pairs.jsonl
test_that "and says the same" bash -c "cmp <('$drr' critic score --critic made.gguf <pairs.jsonl) <('$drr' critic score --critic back.gguf <pairs.jsonl)"
rm made-hf/model.safetensors
expect "a folder without weights is refused" 1 "$drr" critic import made-hf --out none.gguf
test_that "in a sentence, and makes nothing" bash -c "grep -q model.safetensors '$work/err' && [ ! -e none.gguf ]"

ask=("$drr" reason "$(python3 -c 'import json; print(json.loads(open("asked.jsonl").readline())["question"])')" --kind boolean
    --reasoner some.replay.jsonl --critic made.gguf)
expect "without asking for it, turns and threshold are what they are" 0 "${ask[@]}"
test_that "and it is said that this is not what was promised of" grep -q "guarantee is not about answers sought like this (turns are 5, not 2)" "$work/err"
expect "reason --guaranteed" 0 "${ask[@]}" --guaranteed --json
test_that "says of its answer whether the promise covers it" json "$work/out" \
    "j['guarantee']['turns'] == 2 and j['guarantee']['covers_this_answer'] == (j['turns'][-1]['verdict'] == 'accept') and (j['outcome'] == 'answered') == j['guarantee']['covers_this_answer']"
expect "a single verdict has a threshold of its own" 0 "${ask[@]}" --max-turns 1 --json
test_that "which is taken" json "$work/out" "j['guarantee']['turns'] == 1"
expect "eval --guaranteed" 0 "$drr" eval --data asked.jsonl --reasoner some.replay.jsonl --critic made.gguf --out report --strategies cot,drr \
    --guaranteed --json
test_that "counts what was accepted, and how much of it was wrong" json "$work/out" \
    "(lambda g, s: g['holds'] and g['why'] is None and 0 <= g['wrong'] <= g['accepted'] == s['answered'])(j['tasks']['asked']['guarantee'], j['tasks']['asked']['strategies']['drr'])"

# --- what drr leaves unsure goes to a reasoner that knows everything
sed 's/"reasoner": "recorder"/"reasoner": "sage"/; s/"correct": false/"correct": true/' some.replay.jsonl | python3 -c '
import json, sys
for line in sys.stdin:
    t = json.loads(line)
    print(json.dumps(dict(t, answer=t["gold"], text="Surely.\nAnswer: " + t["gold"])))' >sage.replay.jsonl
eval=("$drr" eval --data asked.jsonl --reasoner some.replay.jsonl --critic made.gguf --max-turns 1 --bootstrap 100 --json)
expect "eval --escalate" 0 "${eval[@]}" --out cascade --strategies cot,drr --escalate sage.replay.jsonl
test_that "sends the unsure questions on, and they end well" json "$work/out" \
    "(lambda s: 0 < s['drr']['escalated'] < 20 and s['drr']['accuracy'] > s['cot']['accuracy'] and s['drr']['mean_escalated_tokens'] < s['drr']['mean_tokens'])(j['tasks']['asked']['strategies']) and j['escalates_to'].startswith('sage')"
expect "all of them, where nothing is sure enough" 0 "${eval[@]}" --out cascade --strategies drr --escalate sage.replay.jsonl --escalate-below 1
test_that "and then all are right" json "$work/out" "(lambda s: s['escalated'] == 20 and s['accuracy'] == 1)(j['tasks']['asked']['strategies']['drr'])"
expect "without drr nobody says what is unsure" 2 "${eval[@]}" --out cascade --strategies cot --escalate sage.replay.jsonl
expect "reason --escalate" 0 "${ask[@]}" --escalate sage.replay.jsonl --escalate-below 1 --json
test_that "shows who answered" json "$work/out" "j['escalated'] and j['turns'][-1]['role'] == 'escalation' and j['turns'][-2]['verdict'] == 'escalate' and j['p_correct'] is None"

expect "a critic without a promise" 0 "${train[@]}" --traces all.jsonl --out plain.gguf --epochs 1
run "$drr" reason "Is ice cold?" --reasoner some.replay.jsonl --critic plain.gguf --guaranteed
test_that "cannot be kept to one" bash -c "[ $status -eq 1 ] && grep -q 'no guarantee to keep to' '$work/err'"
test_that "and its card says that none was asked for" grep -q "None was asked for" plain.card.md
finish
