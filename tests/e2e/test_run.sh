#!/usr/bin/env bash
# `drr run` on what goes wrong around it: questions on both sides, answers that are missing, another reasoner's store, and a
# training that was killed and is taken up again or given up. Recorded answers stand in for a model; the training is real.
. "$(dirname "$0")/lib.sh"
need all-minilm-l6-v2
cd "$work" || exit 1
questions=$source_root/tests/e2e/questions.py
"$questions" 60 >learn.jsonl
"$questions" 30 100 >compare.jsonl
for who in first second; do
    { "$questions" 60 --traces $who; "$questions" 30 100 --traces $who; } >$who.replay.jsonl
done

cycle=("$drr" run --train learn.jsonl --test compare.jsonl --encoder all-minilm-l6-v2 --out made --distill-samples 2
    --distill-turns 1 --samples 2 --max-turns 2)
# refuses WHAT WORDS OPTION...: before a model is loaded or anything is made
refuses() {
    local what=$1 words=$2 word last
    shift 2
    run "$drr" run --encoder all-minilm-l6-v2 --reasoner first.replay.jsonl --out refused "$@"
    last=$(tail -n 1 "$work/err")
    for word in $words; do
        case $last in *"$word"*) ;; *) not_ok "$what" "\"$word\" is not in: $last"; return ;; esac
    done
    if [ "$status" -ne 1 ] || [ -e refused ] || grep -q '^reasoner:' "$work/err"; then
        not_ok "$what" "wanted exit 1, no folder and no model" "$(seen)"
        return
    fi
    ok "$what: $last"
}
says() { if grep -qF -- "$2" "$work/err"; then ok "$1"; else not_ok "$1" "no \"$2\"" "$(seen)"; fi; }

# --- the questions
refuses "the same questions on both sides" "60 of 60 learn.jsonl:1 --allow-overlap" --train learn.jsonl --test learn.jsonl
{ cat compare.jsonl; head -n 3 learn.jsonl | sed 's/"id": "/&again-/; s/Is it/  IS  IT/'; } >close.jsonl
refuses "the same under other names, in other letters" "3 of 33 close.jsonl:31 learn.jsonl:1" --train learn.jsonl --test close.jsonl
sed 's/"answer": "[^"]*"/"answer": ""/' learn.jsonl | sed -n 4p | cat learn.jsonl - | sed '61s/q003/q999/' >open.jsonl
refuses "a question to learn from without its answer" "open.jsonl:61 q999" --train open.jsonl --test compare.jsonl
refuses "a question to compare on without its answer" "open.jsonl:61 q999" --train compare.jsonl --test open.jsonl
sed '7s/.*/{"id": "torn", "question/' compare.jsonl >torn.jsonl
refuses "a damaged row" "torn.jsonl:7" --train learn.jsonl --test torn.jsonl

# --- what training would refuse, before answers are made for it
both=(--train learn.jsonl --test compare.jsonl)
refuses "a probe has nothing to teach by steps" "probe --steps" "${both[@]}" --kind probe --steps mc=2
refuses "an encoder that is not there" "nowhere" "${both[@]}" --encoder nowhere
refuses "an error that cannot be promised" "between" "${both[@]}" --target-error 2
refuses "a learning rate that teaches nothing" "learning 0," "${both[@]}" --learning-rate 0
refuses "beginnings for a head of tokens" "--beginnings --head" "${both[@]}" --beginnings 2 --head token

head -n 8 learn.jsonl >few.jsonl
refuses "questions that are too few" "--train 8 50" --train few.jsonl --test compare.jsonl
refuses "questions that are too few within the limit" "49 --train-limit 50" "${both[@]}" --train-limit 49
refuses "an encoder that is none" "gsm8k-test data encoder" "${both[@]}" --encoder gsm8k-test
refuses "a data set that is none" "smollm2-135m reasoner data" --train smollm2-135m --test compare.jsonl

# --- steps
expect "steps that are none are refused" 2 "${cycle[@]}" --reasoner first.replay.jsonl --steps many
expect "recorded answers cannot go on from a step" 1 "${cycle[@]}" --reasoner first.replay.jsonl --steps mc=2
says "which is said" "from the middle of an answer"
rm -rf made
head -n 1 learn.jsonl | sed 's/q000/once-more/' >>compare.jsonl # one of 31 is a warning

# --- killed while it trains
"${cycle[@]}" --reasoner first.replay.jsonl --epochs 40 --patience 0 >killed.out 2>killed.err &
job=$!
for _ in $(seq 1200); do
    [ -f made/critic.gguf.checkpoint ] && break
    kill -0 $job 2>/dev/null || break
    sleep 0.1
done
kill -9 $job 2>/dev/null
wait $job 2>/dev/null
test_that "a training that is killed leaves its checkpoint" test -f made/critic.gguf.checkpoint
test_that "and no critic" test ! -e made/critic.gguf
cp made/critic.gguf.checkpoint stale.checkpoint
cp -r made other
expect "run with other options" 0 "${cycle[@]}" --reasoner first.replay.jsonl --epochs 2
says "gives the old training up" "given up, and training begins anew"
says "warns of the question on both sides" "1 of 31"
test_that "leaves no checkpoint" test ! -e made/critic.gguf.checkpoint
cp stale.checkpoint made/critic.gguf.checkpoint
cp made/critic.gguf first.gguf
expect "the same once more" 0 "${cycle[@]}" --reasoner first.replay.jsonl --epochs 2 --json
test_that "compares all strategies" json "$work/out" "j['tasks']['compare']['strategies']['drr']['n'] == 31"
says "trains nothing" "was trained on these traces already"
says "generates nothing" "0 completions generated"
test_that "keeps the critic" cmp first.gguf made/critic.gguf
expect "another critic in its place" 0 "$drr" train --traces made/traces.db --encoder all-minilm-l6-v2 --out made/critic.gguf \
    --epochs 1 --seed 9
expect "is not taken for it" 0 "${cycle[@]}" --reasoner first.replay.jsonl --epochs 2
says "but trained anew" "2 of 3: train made/critic.gguf"
rm -rf made && mv other made
"${cycle[@]}" --reasoner first.replay.jsonl --epochs 40 --patience 0 >resumed.out 2>resumed.err &
job=$!
for _ in $(seq 600); do
    grep -q 'going on from' resumed.err && break
    kill -0 $job 2>/dev/null || break
    sleep 0.1
done
kill -9 $job 2>/dev/null
wait $job 2>/dev/null
test_that "run with the same options goes on from the checkpoint" grep -q 'going on from made/critic.gguf.checkpoint at step [1-9]' resumed.err
rm -f made/critic.gguf.checkpoint

# --- another reasoner's store
expect "another reasoner is refused" 1 "${cycle[@]}" --reasoner second.replay.jsonl --epochs 1
says "with a flag" "say --any-identity"
test_that "that run has" grep -q -e '--any-identity' <("$drr" run --help)
expect "with which it goes on" 0 "${cycle[@]}" --reasoner second.replay.jsonl --epochs 1 --any-identity
says "from the answers of both" "240 traces of 60 questions"
finish
