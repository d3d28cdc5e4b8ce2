#!/usr/bin/env bash
# The losses and heads beside the plain one, from `drr train --rank-weight`, --head token and --steps to a critic that scores
# steps, is shown, exported and refused where it cannot be. Recorded answers stand in for a model; the training is real.
. "$(dirname "$0")/lib.sh"
need all-minilm-l6-v2
cd "$work" || exit 1
"$source_root/tests/e2e/questions.py" 80 --traces recorder >all.jsonl
python3 - <<'PY'
import json, random
lines = [json.loads(line) for line in open("all.jsonl")]
right = {}  # one answer to each question, by turns right and wrong: nothing to rank
for t in lines:
    if t["correct"] == (int(t["id"][1:]) % 2 == 0):
        right.setdefault(t["id"], t)
with open("single.jsonl", "w") as out:
    for t in right.values():
        out.write(json.dumps(t) + "\n")

# Four sentences and an answer; in half of them one is a guess, and from it on no step is worth anything. One trace in four
# is not labelled.
rng = random.Random(1)
plain = ["We look at the number {n}.", "It is a plain matter.", "We check it once more.", "That settles it."]
guess = ["I just guess something here.", "Maybe bananas have to do with it."]
for name, first, n in (("stepped.jsonl", 0, 90), ("other.jsonl", 500, 30)):
    with open(name, "w") as out:
        for q in range(first, first + n):
            for sample in range(2):
                wrong = (q + sample) % 2
                sentences = [s.format(n=q) for s in plain]
                error = rng.randrange(4) if wrong else 5
                if wrong:
                    sentences[error] = rng.choice(guess)
                text, steps = "", []
                for i, s in enumerate([*sentences, "\nAnswer: " + ("no" if wrong else "yes")]):
                    text += (" " if 0 < i < 4 else "") + s
                    good = i < error
                    steps.append({"end": len(text), "right": 3 if good and i < 4 else 0, "of": 4 if i < 4 else 0,
                                  "value": (0.75 if i < 4 else 1.0) if good else 0.0})
                trace = {"task": "made", "id": f"q{q}", "question": f"Is {q} a number?", "gold": "yes", "kind": "boolean",
                         "reasoner": "recorder", "prompt": "recorded", "sample": sample, "text": text,
                         "answer": "no" if wrong else "yes", "correct": not wrong}
                if q % 4 or first:
                    trace["steps"] = steps
                out.write(json.dumps(trace) + "\n")
PY
train=("$drr" train --encoder all-minilm-l6-v2 --seed 3)

# refuses WHAT "WORD WORD..." COMMAND...: exit 1, one sentence with each word in it
refuses() {
    local what=$1 words=$2 word last
    shift 2
    run "$@"
    last=$(tail -n 1 "$work/err")
    [ "$status" -eq 1 ] || { not_ok "$what" "wanted exit 1" "$(seen)"; return; }
    for word in $words; do
        case $last in *"$word"*) ;; *) not_ok "$what" "\"$word\" is not in: $last"; return ;; esac
    done
    ok "$what: $last"
}
refuses "traces without labelled steps" "all.jsonl labelled steps drr distill --steps" "${train[@]}" --traces all.jsonl --out no.gguf --steps
refuses "questions with one answer each" "right wrong answer rank more samples" "${train[@]}" --traces single.jsonl --out no.gguf --rank-weight 1
expect "an unknown head" 2 "${train[@]}" --traces all.jsonl --out no.gguf --head crown
expect "a negative weight" 2 "${train[@]}" --traces all.jsonl --out no.gguf --rank-weight -1
if ls | grep -q "^no"; then not_ok "nothing is left behind" "$(ls)"; else ok "nothing is left behind"; fi

expect "training with a ranking term" 0 "${train[@]}" --traces all.jsonl --out ranked.gguf --epochs 1 --rank-weight 0.5 --json
test_that "it says what it ranked" json "$work/out" "0 < j['n_rank_questions'] <= 80 and j['head'] == 'cls' and j['n_train_steps'] == 0"
test_that "and so does the card" grep -q "^| ranking term | weight 0.5, over [1-9]" ranked.card.md
expect "a token head" 0 "${train[@]}" --traces all.jsonl --out token.gguf --epochs 1 --head token --rank-weight 1 --json
test_that "is what it has" json "$work/out" "j['head'] == 'token' and j['n_train_steps'] == 0 and j['auroc_steps'] is None"

expect "training by steps" 0 "${train[@]}" --traces stepped.jsonl --test-traces other.jsonl --out steps.gguf --epochs 6 --steps --json
cp "$work/out" steps.json
test_that "counts labels and measures steps" json steps.json "j['head'] == 'token' and j['n_train_steps'] > 300 and j['n_test_steps'] == 300"
test_that "and tells good ones from bad ones" json steps.json "j['auroc_steps'] > 0.95"
test_that "the card has the figure" grep -q "^Of 300 labelled steps" steps.card.md
expect "scoring steps" 0 "$drr" critic score --critic steps.gguf --in other.jsonl --out scored.jsonl --steps
test_that "those from an error on score lower, in every text but few" python3 - <<'PY'
import json
rows = [json.loads(line) for line in open("scored.jsonl")]
assert len(rows) == 60 and all([s["end"] for s in r["step_scores"]] == [s["end"] for s in r["steps"]] for r in rows)
wrong = [r for r in rows if not r["correct"]]
p = lambda r, good: [x["p"] for x, s in zip(r["step_scores"], r["steps"]) if (s["value"] > 0) == good]
lower = [max(p(r, False)) < min(p(r, True)) for r in wrong if p(r, True)]
assert sum(lower) >= 0.9 * len(lower) > 0, (sum(lower), len(lower))
right = [x for r in rows if r["correct"] for x in p(r, True)[:4]]
assert 0.6 < sum(right) / len(right) < 0.9, sum(right) / len(right)  # the labels say 0.75
PY
"$drr" critic score --critic steps.gguf --in other.jsonl >plain.jsonl 2>/dev/null
test_that "the texts' scores are those without --steps" python3 - <<'PY'
import json
a, b = ([json.loads(line) for line in open(name)] for name in ("scored.jsonl", "plain.jsonl"))
assert all(abs(x["logit"] - y["logit"]) < 1e-4 and abs(x["p_correct"] - y["p_correct"]) < 1e-4 for x, y in zip(a, b))
assert "step_scores" not in b[0] and len(b) == 60
PY
expect "training on beginnings" 0 "${train[@]}" --traces stepped.jsonl --test-traces other.jsonl --out begun.gguf --epochs 6 --beginnings 3 --json
cp "$work/out" begun.json
test_that "counts them and measures those of the test traces" json begun.json "j['n_train_beginnings'] > 100 and j['n_test_beginnings'] == 240"
test_that "and tells those of right answers from the others" json begun.json "j['auroc_beginnings'] > 0.7 and j['auroc_text'] > 0.95"
test_that "the card says what it read" grep -q "^| beginnings | [1-9][0-9]* trained on" begun.card.md
expect "and critic show" 0 "$drr" critic show begun.gguf
test_that "says it too" grep -q "^beginnings  [1-9][0-9]* trained on" "$work/out"
python3 - <<'PY'
import json
rows = [json.loads(line) for line in open("other.jsonl")]
with open("cut.jsonl", "w") as out:
    for r in rows:
        for s in r["steps"][:-1]:
            out.write(json.dumps({"question": r["question"], "kind": r["kind"], "text": r["text"][:s["end"]], "good": s["value"] > 0}) + "\n")
PY
expect "a beginning" 0 "$drr" critic score --critic begun.gguf --in cut.jsonl --out cut-scored.jsonl
test_that "has a P that falls with the guess in it" python3 - <<'PY'
import json
p = {good: [r["p_correct"] for r in map(json.loads, open("cut-scored.jsonl")) if r["good"] == good] for good in (True, False)}
mean = {good: sum(p[good]) / len(p[good]) for good in p}
assert mean[True] > 0.45 and mean[False] < 0.25, mean
PY
expect "beginnings for a head of tokens are refused" 1 "${train[@]}" --traces stepped.jsonl --out no.gguf --beginnings 2 --steps
test_that "with the way out" grep -q "leave out --beginnings" "$work/err"
echo '{"question": "Is 7 a number?", "text": "We look at it. I just guess something here. Yes.\nAnswer: no", "kind": "boolean"}' >line.jsonl
expect "a line without steps" 0 "$drr" critic score --critic token.gguf --in line.jsonl --steps
test_that "is cut into some" json "$work/out" "[s['end'] for s in j['step_scores']] == [14, 43, 49, 59]"
refuses "steps of a critic that reads [CLS]" "ranked [CLS] --steps" "$drr" critic score --critic ranked.gguf --in line.jsonl --steps

# --- what a split is for
ablation=("$drr" train --traces all.jsonl --epochs 1 --max-length 64 --out ablation.gguf)
expect "a split by trace" 0 "${ablation[@]}" --split trace --json
test_that "is told of on stderr" grep -q "every held-out figure of this critic is too good" "$work/err"
test_that "in JSON" json "$work/out" "j['split'] == 'trace'"
test_that "and on the card" grep -q "Split by trace, as an ablation" ablation.card.md
expect "and in words" 0 "${ablation[@]}" --split trace
test_that "as loudly" grep -q "SPLIT BY TRACE" "$work/out"
expect "the split by question" 0 "${ablation[@]}" --first-turns-only --json
test_that "is the usual one" json "$work/out" "j['split'] == 'question'"
test_that "and the card says what was left out" grep -q "Answers after a rejection were kept out" ablation.card.md
expect "a fold by trace is refused" 1 "${ablation[@]}" --split trace --folds 3
expect "and so is another split" 2 "${ablation[@]}" --split answer

expect "critic show" 0 "$drr" critic show steps.gguf --json
test_that "says which head, and what taught it" json "$work/out" "j['head'] == 'token' and j['n_train_steps'] == __import__('json').load(open('steps.json'))['n_train_steps']"
expect "critic show in words" 0 "$drr" critic show steps.gguf
test_that "says it too" grep -q "^head  *of tokens, taught by [0-9]* labels of steps" "$work/out"
expect "critic export" 0 "$drr" critic export --critic steps.gguf --to steps-hf
test_that "says who can run it and who cannot" bash -c 'grep -q AutoModelForTokenClassification "$1" && grep -q "llama.cpp has no head of tokens" "$1"' - "$work/err"
expect "critic import" 0 "$drr" critic import steps-hf --out back.gguf
"$drr" critic score --critic back.gguf --in other.jsonl --steps >back.jsonl 2>/dev/null
test_that "what comes back scores alike" cmp scored.jsonl back.jsonl
finish
