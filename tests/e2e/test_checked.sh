#!/usr/bin/env bash
# Questions whose answers a program checks: distil, train's view, export, eval, with recorded programs that are right, wrong, hanging
# and destructive.
. "$(dirname "$0")/lib.sh"
need
cd "$work" || exit 1
"$drr" doctor --json >doctor.json 2>/dev/null
test_that "doctor says whether programs can be contained, and why" json doctor.json \
    "j['checkers']['contained'] in (True, False) and (j['checkers']['contained'] or j['checkers']['why_not']) and j['checkers']['python'] and j['checkers']['means']"
contained=$(json doctor.json "j['checkers']['contained']") || true
[ "$contained" = True ] || skip_all "this machine cannot contain programs: $(json doctor.json "j['checkers']['why_not']")"

chmod 755 "$work" # run by root, checkers are the user nobody
mkdir tmp && export TMPDIR=$work/tmp
mkdir canary && chmod 777 canary && echo alive >canary/bird && chmod 666 canary/bird
CANARY=$work/canary/bird python3 - <<'PY'
import json, os
canary = os.environ["CANARY"]
tests = ["assert double(2) == 4", "assert double(-1) == -2"]
def code(text):
    return "So:\n```python\n" + text + "\n```\n"
answers = {
    "right": code("def double(x):\n    return 2 * x"), "again": code("def double(x):\n    return 2 * x  "),
    "wrong": code("def double(x):\n    return x ** 2"), "hangs": code("def double(x):\n    while True: pass"),
    "deletes": code(f"import os\nos.unlink({canary!r})\ndef double(x):\n    return 2 * x"),
    "leaves": code("import os\nos._exit(0)"), "silent": "I cannot write that.",
}
with open("code.jsonl", "w") as data, open("code.replay.jsonl", "w") as replay:
    for name, text in answers.items():
        question = f"Write double ({name})."
        print(json.dumps({"id": name, "question": question, "kind": "checked", "tests": tests, "setup": ""}), file=data)
        print(json.dumps({"task": "code", "id": name, "question": question, "reasoner": "hand", "prompt": "p", "gold": "",
                          "sample": 0, "turn": 0, "text": text, "correct": False}), file=replay)
with open("odd.jsonl", "w") as data, open("odd.replay.jsonl", "w") as replay:
    for name, command in (("even", 'python3 "$DRR_FOLDER/even.py"'), ("broken", "exit 3"), ("missing", "no-such-checker")):
        question = f"An even number ({name})?"
        print(json.dumps({"id": name, "question": question, "kind": "checked", "checker": command}), file=data)
        for sample, text in enumerate(("4", "5")):
            print(json.dumps({"task": "odd", "id": name, "question": question, "reasoner": "hand", "prompt": "p", "gold": "",
                              "sample": sample, "turn": 0, "text": text, "correct": False}), file=replay)
open("even.py", "w").write("import json, sys\nsys.exit(int(json.load(sys.stdin)['answer']) % 2)\n")
PY

expect "without leave no program is run" 1 "$drr" distill --data code.jsonl --reasoner code.replay.jsonl --out no.db
test_that "and the flag that gives leave is named" grep -q -- "--allow-checkers" err
test_that "and no store is left" test ! -e no.db
expect "the data set is shown" 0 "$drr" data show code.jsonl --n 1
test_that "with what checks it" grep -q "checked by: .*double(2) == 4" out
expect "and imported" 0 "$drr" data import code.jsonl --out copy.jsonl
test_that "as it was" python3 -c "
import json
a, b = ([json.loads(l) for l in open(f)] for f in ('code.jsonl', 'copy.jsonl'))
assert a == b, (a, b)"

expect "programs are labelled by running them" 0 "$drr" distill --data code.jsonl --reasoner code.replay.jsonl --samples 1 --turns 1 \
    --allow-checkers --check-seconds 2 --out code.db
test_that "the canary lives" test -e canary/bird
run "$drr" traces export code.db --out code.traces.jsonl
test_that "right, wrong, hanging, deleting, leaving and silent ones have the right labels" python3 -c "
import json
got = {t['id']: t['label'] for t in map(json.loads, open('code.traces.jsonl'))}
want = dict(right='accept', again='accept', wrong='reject', hangs='reject', deletes='reject', leaves='reject', silent='unparsed')
assert got == want, got"

expect "a command labels too" 0 "$drr" distill --data odd.jsonl --reasoner odd.replay.jsonl --samples 2 --turns 2 --allow-checkers \
    --out odd.db
test_that "what it cannot say is said" grep -q "4 of 7 new traces have no label" err
run "$drr" traces stats odd.db --json
test_that "and counted" json out "j['unlabelled'] == 4"
run "$drr" traces export odd.db --out odd.traces.jsonl
test_that "right and wrong by exit code, else no label and no further turn" python3 -c "
import json
got = sorted((t['id'], t['text'], t['label']) for t in map(json.loads, open('odd.traces.jsonl')) if t['turn'] == 0)
want = sorted([(i, a, 'unlabelled') for i in ('broken', 'missing') for a in '45'] + [('even', '4', 'accept'), ('even', '5', 'reject')])
assert got == want, got
assert all(t['id'] == 'even' for t in map(json.loads, open('odd.traces.jsonl')) if t['turn'])"
expect "a run that is repeated checks nothing again" 0 "$drr" distill --data odd.jsonl --reasoner odd.replay.jsonl --samples 2 --turns 2 \
    --allow-checkers --out odd.db
run "$drr" traces stats odd.db --json
test_that "and adds nothing" json out "j['unlabelled'] == 4"

expect "eval without leave is refused" 1 "$drr" eval --data code.jsonl --reasoner code.replay.jsonl --strategies cot --out e1
test_that "with the flag named" grep -q -- "--allow-checkers" err
expect "eval grades by running" 0 "$drr" eval --data code.jsonl --reasoner code.replay.jsonl --strategies cot --bootstrap 100 \
    --allow-checkers --check-seconds 2 --out e2 --json
test_that "two of seven are right" json out "abs(j['tasks']['code']['strategies']['cot']['accuracy'] - 2 / 7) < 1e-6"
json out "j['prompts']" >prompts.id
test_that "the canary still lives" test -e canary/bird
expect "eval of what cannot be checked ends" 0 "$drr" eval --data odd.jsonl --reasoner odd.replay.jsonl --strategies cot --bootstrap 100 \
    --allow-checkers --out e3 --json
test_that "and counts it" json out "j['tasks']['odd']['strategies']['cot']['ungraded'] == 2"
test_that "and warns" grep -q "could not be checked" err
test_that "and says so in the report" grep -q "2 answers of cot could not be checked" e3/report.txt
expect "reason answers with a program" 0 "$drr" reason --kind checked --reasoner code.replay.jsonl "Write double (right)."
test_that "which it does not run" grep -q "def double" out
echo '{"id": "1", "question": "An even number (even)?", "kind": "checked", "checker": "sleep 4321.5"}' >slow.jsonl
"$drr" distill --data slow.jsonl --reasoner odd.replay.jsonl --samples 1 --allow-checkers --check-seconds 600 --out slow.db >/dev/null 2>&1 &
slow=$!
for _ in $(seq 50); do pgrep -f "^sleep 4321.5" >/dev/null && break; sleep 0.1; done
test_that "a check runs" pgrep -f "^sleep 4321.5"
kill -9 "$slow"
wait "$slow" 2>/dev/null
sleep 0.5
test_that "and ends with a drr that is killed" bash -c '! pgrep -f "^sleep 4321.5"'
rmdir tmp/drr-check.* # what docs/checking.md says may be left
test_that "no process and no scratch folder is left" rmdir tmp
finish
