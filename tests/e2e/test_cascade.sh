#!/usr/bin/env bash
# `drr cascade` finds a threshold that `drr eval --escalate-below` then keeps to, and votes weighed by a critic. Recorded
# answers stand in for both models; the training is real.
. "$(dirname "$0")/lib.sh"
need all-minilm-l6-v2
cd "$work" || exit 1
questions=$source_root/tests/e2e/questions.py
"$questions" 60 --traces recorder >all.jsonl
"$questions" 30 300 >asked.jsonl
"$questions" 30 300 --traces recorder >some.replay.jsonl
sed 's/"reasoner": "recorder"/"reasoner": "sage"/' some.replay.jsonl | python3 -c '
import json, sys
for line in sys.stdin:
    t = json.loads(line)
    print(json.dumps(dict(t, answer=t["gold"], correct=True, text="Surely.\nAnswer: " + t["gold"])))' >sage.replay.jsonl
expect "a critic" 0 "$drr" train --encoder all-minilm-l6-v2 --seed 3 --traces all.jsonl --out made.gguf --epochs 2 --max-length 64

cascade=("$drr" cascade --data asked.jsonl --reasoner some.replay.jsonl --critic made.gguf --max-turns 1 --bootstrap 100)
sage=(--escalate sage.replay.jsonl)
expect "cascade" 0 "${cascade[@]}" "${sage[@]}" --out found --json --lines lines.jsonl --price-ratio 4
cp "$work/out" found.json
test_that "without a warning, for the critic is of these recorded answers" bash -c '! grep -q warning "$1"' - "$work/err"
test_that "has every threshold, rising in cost from the first alone to both" python3 - <<'PY'
import json
j = json.load(open("found.json"))
points = j["points"]
assert j["n"] == 30 and j["accuracy_second"] == 1, j
assert points[0]["below"] == 0 and points[0]["escalated"] == 0 and abs(points[0]["accuracy"] - j["accuracy_first"]) < 1e-9, points[0]
assert all(a["below"] < b["below"] and a["cost"] <= b["cost"] for a, b in zip(points, points[1:])), points
assert abs(points[0]["cost"] - j["cost_first"]) < 1e-9 and abs(points[-1]["cost"] - j["cost_first"] - points[-1]["escalated"]) < 1e-2, points[-1]
picked = points[j["picked"]]
assert picked["below"] == j["escalate_below"] and picked["accuracy"] == 1, picked
assert all(p["accuracy"] < 1 for p in points[:j["picked"]]), points
lines = [json.loads(line) for line in open("lines.jsonl")]
assert len({l["text"] for l in lines}) == 30, lines
assert len(lines) == 30 and sum(l["first"] for l in lines) == round(30 * j["accuracy_first"]), lines
assert abs(sum(l["cost_first"] for l in lines) / sum(l["cost_second"] for l in lines) - j["cost_first"]) < 1e-9
PY
below=$(json found.json "j['escalate_below']")
expect "eval with that threshold" 0 "$drr" eval --data asked.jsonl --reasoner some.replay.jsonl --critic made.gguf --max-turns 1 --bootstrap 100 \
    --strategies drr "${sage[@]}" --escalate-below "$below" --out kept --json
test_that "escalates as many, and gets as many right" python3 - "$work/out" <<'PY'
import json, sys
found, kept = json.load(open("found.json")), json.load(open(sys.argv[1]))["tasks"]["asked"]["strategies"]["drr"]
picked = found["points"][found["picked"]]
assert kept["escalated"] == round(30 * picked["escalated"]) and abs(kept["accuracy"] - picked["accuracy"]) < 1e-9, (kept, picked)
PY
expect "a target error takes the cheapest that keeps it" 0 "${cascade[@]}" "${sage[@]}" --out found --target-error 0.2
test_that "and a table says which" bash -c "grep -q -e '<- --escalate-below' '$work/out' && grep -q -e '^--escalate-below 0\.' '$work/out'"
expect "a target cost that the first alone exceeds" 0 "${cascade[@]}" "${sage[@]}" --out found --target-cost 0.01
test_that "is met by no threshold, and that is said" grep -q "no threshold meets the target" "$work/out"
expect "two targets are one too many" 2 "${cascade[@]}" "${sage[@]}" --target-error 0.1 --target-cost 0.5
expect "a second reasoner is needed" 2 "${cascade[@]}"
"$questions" 1 900 | sed 's/"answer": "[^"]*"/"answer": ""/' >bare.jsonl
expect "questions without answers are refused" 1 "$drr" cascade --data bare.jsonl --reasoner some.replay.jsonl --critic made.gguf "${sage[@]}" --out found
test_that "in a sentence that names one" grep -q "q900" "$work/err"

# --- before the first token
expect "a critic of questions alone" 0 "$drr" train --encoder all-minilm-l6-v2 --seed 3 --traces all.jsonl --out question.gguf --epochs 1 \
    --max-length 64 --question-only
ask=("$drr" eval --data asked.jsonl --reasoner some.replay.jsonl --strategies drr --bootstrap 100 --json --out before)
expect "questions that are sure" 0 "${ask[@]}" --critic made.gguf --question-critic question.gguf --sure-above 0
test_that "by a critic that the report names" json "$work/out" \
    "__import__('hashlib').sha256(open('question.gguf', 'rb').read()).hexdigest() == j['question_critic']['sha256']"
test_that "are answered once" json "$work/out" "j['tasks']['asked']['strategies']['drr']['mean_turns'] == 1 and j['policy']['sure_above'] == 0"
expect "questions that are hopeless" 0 "${ask[@]}" --critic made.gguf --question-critic question.gguf --hopeless-below 1
test_that "are not asked" json "$work/out" "(lambda s: s['abstained'] == 30 and s['mean_calls'] == 0)(j['tasks']['asked']['strategies']['drr'])"
expect "but go to another reasoner, where there is one" 0 "${ask[@]}" --critic made.gguf --question-critic question.gguf --hopeless-below 1 "${sage[@]}"
test_that "which answers them" json "$work/out" "(lambda s: s['escalated'] == 30 and s['accuracy'] == 1)(j['tasks']['asked']['strategies']['drr'])"
expect "questions that are given up" 0 "${ask[@]}" --critic made.gguf --question-critic question.gguf --hopeless-below 1 --give-up-below 1 "${sage[@]}"
test_that "go nowhere" json "$work/out" "(lambda s: s['routes']['abstain']['n'] == s['abstained'] == 30 and s['mean_calls'] == 0)(j['tasks']['asked']['strategies']['drr'])"
expect "questions that are sampled" 0 "${ask[@]}" --critic made.gguf --question-critic question.gguf --parallel-below 1 --samples 2 --threshold 1
test_that "are asked for all samples" json "$work/out" "(lambda s: s['routes']['parallel']['n'] == 30 and s['mean_calls'] == 2)(j['tasks']['asked']['strategies']['drr'])"
test_that "and the report says so" grep -q "30 were sampled in parallel" before/report.txt
test_that "and the page, and each question" bash -c 'grep -q "30 were sampled in parallel" before/report.html && [ "$(grep -c "\"route\":\"parallel\"" before/questions.jsonl)" -eq 30 ]'
expect "bounds in another order are refused" 1 "${ask[@]}" --critic made.gguf --question-critic question.gguf --parallel-below 0.5 --give-up-below 0.6
test_that "in a sentence that says which" grep -q "parallel-below 0.5 lies below give-up-below 0.6" "$work/err"
expect "one question" 0 "$drr" reason --reasoner some.replay.jsonl --critic made.gguf --question-critic question.gguf --sure-above 0 --json \
    --kind boolean "$(python3 -c 'import json; print(json.loads(open("asked.jsonl").readline())["question"])')"
test_that "without a warning" bash -c '! grep -q warning "$1"' - "$work/err"
test_that "tells its way, too" json "$work/out" "j['route'] == 'once' and 0 < j['p_question'] < 1"
expect "one question of another's answers" 0 "$drr" reason --reasoner sage.replay.jsonl --critic made.gguf --kind boolean \
    "$(python3 -c 'import json; print(json.loads(open("asked.jsonl").readline())["question"])')"
test_that "is answered with a warning that says what is other" grep -q "warning: .*sage@replay answers here, another reasoner" "$work/err"
expect "it judges no answers" 1 "${ask[@]}" --critic question.gguf
expect "nor for a server" 1 timeout 60 "$drr" serve --port 0 --upstream http://127.0.0.1:9/v1 --critic question.gguf
test_that "which says what it wants" grep -q "questions alone" "$work/err"
expect "and a critic of answers no questions" 1 "${ask[@]}" --critic made.gguf --question-critic made.gguf --sure-above 0.9
expect "a threshold needs it" 1 "${ask[@]}" --critic made.gguf --sure-above 0.9
test_that "and says so" grep -q -e "--question-critic FILE" "$work/err"

# --- votes that are weighed
vote=("$drr" eval --data asked.jsonl --reasoner some.replay.jsonl --strategies vote --samples 2 --bootstrap 100 --json --out votes)
for how in critic posterior; do
    expect "votes by $how, stopped when sure enough" 0 "${vote[@]}" --critic made.gguf --weigh-votes $how --stop-confidence 0.7
    test_that "take fewer samples than all" json "$work/out" "(lambda s: 1 <= s['mean_calls'] < 2)(j['tasks']['asked']['strategies']['vote']) and j['policy']['weigh_votes'] == '$how'"
    expect "votes by $how need a critic" 1 "${vote[@]}" --weigh-votes $how
done
expect "votes by confidence, where no log-probabilities are told" 0 "${vote[@]}" --weigh-votes confidence
test_that "count equally, and that is said" grep -q "tells no log-probabilities for 30 of 30 questions" "$work/err"
finish
