#!/usr/bin/env bash
# drr models quantize as a person meets it: what it prints and where, exit codes, Ctrl-C, nothing left behind, and that the
# model it wrote answers.
. "$(dirname "$0")/lib.sh"
need smollm2-135m
cd "$work" || exit 1
mkdir made

expect "a known model becomes q8_0" 0 "$drr" models quantize smollm2-135m --to q8_0 --out made/q8.gguf --json
test_that "one JSON object says what was and what is" json "$work/out" \
    "j['from'] == 'q4_1' and j['to'] == 'q8_0' and j['requantized'] and j['bytes_before'] < j['bytes_after'] and j['out'] == 'made/q8.gguf'"
test_that "its sha256 is the file's" json "$work/out" "j['sha256'] == '$(sha256sum <made/q8.gguf | cut -d' ' -f1)'"
test_that "its size is the file's" json "$work/out" "j['bytes_after'] == $(stat -c %s made/q8.gguf)"
test_that "a note says that the source was quantized before" grep -q 'smollm2-135m is q4_1: what it has lost' "$work/err"
test_that "and libllama's own log is not to be seen" test "$(grep -cvE 'lost already|^quantize [0-9]+/[0-9]+ tensors' "$work/err")" -eq 0
expect "--quiet says nothing beside" 0 "$drr" models quantize made/q8.gguf --to Q4_0 --out made/q4.gguf --quiet
test_that "but the result" grep -q '^made/q4.gguf: .* sha256 [0-9a-f]\{64\}$' "$work/out"
test_that "on stderr nothing" test ! -s "$work/err"
for made in q8 q4; do
    expect "made/$made.gguf answers" 0 "$drr" reason --reasoner "made/$made.gguf" --width 1 --turn-tokens 8 --json "What is 2 + 3?"
    test_that "in words, as a reasoner of its own name" json "$work/out" \
        "j['reasoner'].startswith('$made@') and j['turns'][0]['n_tokens'] > 0 and j['failure'] is None"
done
rm made/*

refused() { # refused WHAT STATUS WORDS-ON-STDERR ARGUMENTS...
    local what=$1 want=$2 words=$3
    shift 3
    run "$drr" models quantize "$@"
    if [ "$status" -eq "$want" ] && grep -qF -e "$words" "$work/err" && [ "$(wc -l <"$work/err")" -eq 1 ] && [ -z "$(ls -A made)" ]; then
        ok "$what"
    else
        not_ok "$what" "$(seen)" "$(ls -A made)"
    fi
}
refused "an unknown format lists those there are" 2 "q8_0, q6_k, q5_k_m" smollm2-135m --to q9 --out made/x.gguf
refused "a missing source is named" 1 "absent.gguf" absent.gguf --to q8_0 --out made/x.gguf
refused "a missing folder is named" 1 "nowhere/x.gguf" smollm2-135m --to q8_0 --out nowhere/x.gguf
refused "no --to is a usage error" 2 "--to" smollm2-135m --out made/x.gguf
ln -s "$cache/models/smollm2-135m.gguf" same.gguf
refused "the source is not overwritten, by whatever name" 2 "would be overwritten" smollm2-135m --to q8_0 --out same.gguf
head -c 50000000 "$cache/models/smollm2-135m.gguf" >cut.gguf
refused "a model cut short says so" 1 "not within the file bounds" cut.gguf --to q8_0 --out made/x.gguf

# Ctrl-C as soon as it says that it is at work; q4_k_m takes the longest.
python3 - "$drr" "$work" <<'PY' >"$work/seen" 2>&1
import os, signal, subprocess, sys
p = subprocess.Popen([sys.argv[1], "models", "quantize", "smollm2-135m", "--to", "q4_k_m", "--out", "made/x.gguf"],
                     stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
for line in p.stderr:
    if line.startswith("quantize 0/"):
        p.send_signal(signal.SIGINT)
        break
rest = p.stderr.read()
print(p.wait(), rest, os.listdir("made"))
sys.exit(0 if p.returncode == 130 and "stopping in order" in rest and not os.listdir("made") else 1)
PY
stopped=$?
test_that "Ctrl-C ends it in order with 130 and nothing left" test "$stopped" -eq 0
[ "$stopped" -eq 0 ] || head -c 600 "$work/seen"
finish
