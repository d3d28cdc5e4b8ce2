#!/usr/bin/env bash
# Bad input, one case after another: each ends with exit 1 and one clear sentence that names the file, with nothing
# half-written left behind. Fetching's own failures (network, checksum, interruption) are in test_fetch.py.
. "$(dirname "$0")/lib.sh"
need
cd "$work" || exit 1
good=$work/good.jsonl
questions=$source_root/tests/e2e/questions.py
"$questions" 6 >"$good"
"$questions" 60 --traces recorder >some.replay.jsonl # a critic is not trained on fewer than 50 questions
reasoner=$cache/models/smollm2-135m.gguf
encoder=$cache/models/all-minilm-l6-v2

# refuses WHAT "WORD WORD..." COMMAND...: exit 1, one sentence as stderr's last line with each word in it, no trace of a
# crash, and nothing new in the folder but what was there
refuses() {
    local what=$1 words=$2 word last
    shift 2
    ls -A >"$work/../$$.before"
    run "$@"
    ls -A | grep -vxE 'out|err|seen' >"$work/../$$.after"
    last=$(grep -v '^$' "$work/err" | tail -n 1)
    local left
    left=$(grep -vxE 'out|err|seen' "$work/../$$.before" | comm -13 - "$work/../$$.after" | tr '\n' ' ')
    rm -f "$work/../$$.before" "$work/../$$.after"
    [ "$status" -eq 1 ] || { not_ok "$what" "wanted exit 1" "$(seen)"; return; }
    for word in $words; do
        case $last in *"$word"*) ;; *) not_ok "$what" "\"$word\" is not in: $last"; return ;; esac
    done
    [ ${#last} -ge 20 ] || { not_ok "$what" "no sentence: $last"; return; }
    [ -z "$left" ] || { not_ok "$what" "left behind: $left"; return; }
    if grep -qE 'AddressSanitizer|runtime error|Assertion|GGML_ASSERT|Segmentation' "$work/err"; then
        not_ok "$what" "$(seen)"
        return
    fi
    ok "$what: $last"
}
show() { refuses "$1" "$2" "$drr" data show "$3"; }

# --- JSONL
head -c 300 "$good" >cut.jsonl
show "a data set cut in the middle of a line" "cut.jsonl" cut.jsonl
{ head -n 2 "$good"; echo '{"id": "x", "question": }'; } >broken.jsonl
show "a broken line is named by its number" "broken.jsonl 3" broken.jsonl
sed '2s/"kind": "[a-z]*"/"kind": "poem"/' "$good" >kind.jsonl
show "an unknown kind" "kind.jsonl 2 poem" kind.jsonl
: >empty.jsonl
show "an empty data set" "empty.jsonl" empty.jsonl
printf '\n\n' >blank.jsonl
show "a data set of blank lines" "blank.jsonl" blank.jsonl
head -c 3000 /dev/urandom >noise.jsonl
show "a data set of noise" "noise.jsonl" noise.jsonl
sed 's/"answer": "[^"]*"/"answer": "Z"/; 1,3d' "$good" | grep choices >letter.jsonl
show "a reference answer that is no choice" "letter.jsonl" letter.jsonl
gzip -c "$good" | head -c 150 >cut.jsonl.gz
show "a gzip file cut short" "cut.jsonl.gz" cut.jsonl.gz
{ echo '['; cat "$good" | sed '$!s/$/,/'; echo ']'; } >list.json
sed '4s/"kind"/kind/' list.json | gzip -c >broken.json.gz
show "a broken record of a compressed list is named by its line" "broken.json.gz:4" broken.json.gz
gzip -c list.json | head -c 150 >cut.json.gz
show "a compressed list cut short" "cut.json.gz" cut.json.gz
mkdir folder.jsonl
show "a folder where a file should be" "folder.jsonl" folder.jsonl
rmdir folder.jsonl

# --- traces
echo '{"task": "t", "id": 5}' >broken.replay.jsonl
refuses "a broken trace record" "broken.replay.jsonl 1" "$drr" traces stats broken.replay.jsonl
{ printf 'SQLite format 3\0'; head -c 5000 /dev/urandom; } >noise.db
refuses "an SQLite file of noise" "noise.db" "$drr" traces stats noise.db
python3 - <<'PY'
import sqlite3
other = sqlite3.connect("other.db")
other.execute("create table something(a)")
other.execute("insert into something values (1)")
other.commit()
PY
refuses "an SQLite file of another program" "other.db" "$drr" traces stats other.db
if [ -f "$encoder/model.safetensors" ] && [ -f "$reasoner" ]; then
    "$drr" distill --data "$good" --reasoner "$reasoner" --out store.db --samples 1 --turns 1 --max-tokens 16 \
        >/dev/null 2>"$work/err"
    if [ -f store.db ]; then
        refuses "a store that is to be exported onto itself" "store.db" "$drr" traces export store.db --out ./store.db
        expect "it is as it was" 0 "$drr" traces stats store.db
        "$drr" traces export store.db --out store.jsonl 2>"$work/err"
        refuses "traces that are to be replaced by their critic" "store.jsonl" "$drr" train --traces store.jsonl \
            --encoder "$encoder" --out store.jsonl
        head -c $(($(stat -c %s store.db) / 2)) store.db >cut.db
        refuses "an SQLite file cut short" "cut.db" "$drr" traces export cut.db --out cut.out
    else
        not_ok "a small store could be made" "$(tail -n 3 "$work/err")"
    fi
fi

# --- models
if [ -f "$reasoner" ]; then
    refuses "a model's name for one that runs here" "large --model --reasoner" "$drr" reason "Why?" --reasoner "$reasoner" -m large
    head -c 1000000 "$reasoner" >cut.gguf
    refuses "a GGUF file cut short" "cut.gguf" "$drr" reason "Why?" --reasoner cut.gguf
    head -c 100000 /dev/urandom >noise.gguf
    refuses "a GGUF file of noise" "noise.gguf" "$drr" reason "Why?" --reasoner noise.gguf
    : >empty.gguf
    refuses "an empty GGUF file" "empty.gguf" "$drr" reason "Why?" --reasoner empty.gguf
    refuses "a reasoner given as a critic" "smollm2-135m.gguf" "$drr" reason "Why?" --reasoner smollm2-135m \
        --critic "$reasoner"
    python3 - >long.jsonl <<'PY'
import json
print(json.dumps({"id": "long", "question": "word " * 20000, "answer": "yes", "kind": "boolean"}))
PY
    refuses "a question longer than the context" "long" "$drr" distill --data long.jsonl --reasoner smollm2-135m \
        --out long.db --samples 1
    rm -f long.db*
else
    skip "broken GGUF files (smollm2-135m is not in the cache)"
fi
{ cat "$good"; echo '{"id": "silent", "question": "Why?", "answer": "", "kind": "text"}'; } >unanswered.jsonl
refuses "a question to distil without its answer" "silent unanswered.jsonl:7" "$drr" distill --data unanswered.jsonl \
    --reasoner some.replay.jsonl --out silent.db
refuses "a question to compare on without its answer" "silent unanswered.jsonl:7" "$drr" eval --data unanswered.jsonl \
    --reasoner some.replay.jsonl --out silent
refuses "a question that the reasoner cannot answer" "some.replay.jsonl unheard-of" "$drr" reason "An unheard-of question?" \
    --reasoner some.replay.jsonl
test_that "says so on stderr alone" test ! -s "$work/out"
refuses "the same as JSON" "some.replay.jsonl unheard-of" "$drr" reason "An unheard-of question?" --reasoner some.replay.jsonl --json
test_that "is still one object on stdout" json "$work/out" "j['outcome'] == 'failed' and 'unheard-of' in j['failure']"
refuses "an unknown model name" "nobody-7b" "$drr" reason "Why?" --reasoner nobody-7b
refuses "a model that is not in the cache yet names the command" "models get" env DRR_CACHE="$work/none" "$drr" reason "Why?" \
    --reasoner qwen2.5-coder-1.5b

# --- encoders
if [ -f "$encoder/model.safetensors" ]; then
    for how in cut noise; do
        mkdir $how
        cp "$encoder"/*.json "$encoder"/*.txt $how/
    done
    head -c 200000 "$encoder/model.safetensors" >cut/model.safetensors
    { printf '\377\377\377\377\377\377\377\177'; head -c 4000 /dev/urandom; } >noise/model.safetensors
    refuses "safetensors cut short" "model.safetensors" "$drr" train --traces some.replay.jsonl --encoder cut --out c.gguf
    refuses "safetensors with a mad header" "model.safetensors" "$drr" train --traces some.replay.jsonl --encoder noise --out c.gguf
    cp "$encoder/model.safetensors" cut/ && echo '{"hidden_size": 384' >cut/config.json
    refuses "a broken config.json" "config.json" "$drr" train --traces some.replay.jsonl --encoder cut --out c.gguf
    refuses "no traces to learn from" "empty.jsonl" "$drr" train --traces empty.jsonl --encoder "$encoder" --out c.gguf
    # --- traces that nothing can be learnt from
    train() { refuses "$1" "$2" "$drr" train --traces "$3" --encoder "$encoder" --out c.gguf; }
    "$questions" 60 >questions.jsonl
    train "questions for traces" "questions.jsonl:1 distill" questions.jsonl
    "$questions" 49 --traces recorder >few.jsonl
    train "traces of fewer than 50 questions" "few.jsonl 49" few.jsonl
    sed 's/"correct": false/"correct": true/' some.replay.jsonl >right.jsonl
    train "traces that are all right" "right.jsonl harder" right.jsonl
    sed 's/"correct": true/"correct": false/' some.replay.jsonl >wrong.jsonl
    train "traces that are all wrong" "wrong.jsonl easier" wrong.jsonl
    sed 's/"text": "[^"]*"/"text": " "/' some.replay.jsonl >silent.jsonl
    train "traces without a word of reasoning" "silent.jsonl text" silent.jsonl
    { cat some.replay.jsonl; sed 's/"correct": true/"correct": none/; s/"correct": false/"correct": true/; s/"correct": none/"correct": false/; s/"sample": /"sample": 1/' some.replay.jsonl; } >both.jsonl
    train "labels that contradict one another" "both.jsonl contradict reference" both.jsonl
    cp "$encoder/model.safetensors" noise/ && head -n 20000 "$encoder/vocab.txt" >noise/vocab.txt
    refuses "a vocabulary of another encoder" "noise/vocab.txt 20000 one" "$drr" train --traces some.replay.jsonl --encoder noise \
        --out c.gguf
else
    skip "broken safetensors files (all-minilm-l6-v2 is not in the cache)"
fi

# --- the disk
small=$work/small
mkdir "$small"
if [ "$(id -u)" -eq 0 ] && mount -t tmpfs -o size=64k tmpfs "$small" 2>/dev/null; then
    trap 'umount -l "$small"; clean_up' EXIT
    big=$work/big.jsonl
    "$questions" 2000 >"$big"
    refuses "a full disk" "small" "$drr" data import "$big" --out "$small/out.jsonl"
    test_that "leaves nothing half-written on it" test -z "$(ls -A "$small")"
    if [ -f "$reasoner" ]; then
        refuses "a full disk under a store" "small" "$drr" distill --data "$big" --reasoner smollm2-135m \
            --out "$small/t.db" --samples 1 --turns 1 --max-tokens 8
        test_that "leaves no store without a trace on it" test -z "$(ls -A "$small")"
    fi
    rm -f "$small"/*
    mount -o remount,ro "$small"
    refuses "a read-only folder" "small" "$drr" data import "$good" --out "$small/out.jsonl"
    if [ -f "$reasoner" ]; then
        refuses "a read-only folder under a store" "small" "$drr" distill --data "$good" --reasoner smollm2-135m --out "$small/t.db"
    fi
else
    skip "a full disk (mounting a small one needs root): a file size limit stands in for it"
    "$questions" 2000 >big.jsonl
    refuses "a full disk" "out.jsonl" bash -c "ulimit -f 16; trap '' XFSZ; exec '$drr' data import big.jsonl --out out.jsonl"
    chmod 555 "$small"
    if [ "$(id -u)" -ne 0 ]; then
        refuses "a read-only folder" "small" "$drr" data import "$good" --out "$small/out.jsonl"
    fi
fi
finish
