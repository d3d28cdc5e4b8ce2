#!/usr/bin/env bash
# What a person or a script meets first: help, version, exit codes, where words go.
. "$(dirname "$0")/lib.sh"
[ -x "$drr" ] || skip_all "there is no command at $drr: run make build"

run "$drr" --version
if [ "$status" -eq 0 ] && grep -q '[0-9]\.[0-9]' "$work/out"; then ok "--version prints a version"; else not_ok "--version prints a version" "$(seen)"; fi
expect "--help is a success" 0 "$drr" --help
test_that "and goes to stdout" test -s "$work/out"
for command in distill train reason eval run data models traces doctor; do
    run "$drr" "$command" --help
    if [ "$status" -eq 0 ] && grep -qi 'example' "$work/out"; then
        ok "$command --help has examples"
    else
        not_ok "$command --help has examples" "$(seen)"
    fi
done
expect "no arguments is a usage error" 2 "$drr"
expect "an unknown command is a usage error" 2 "$drr" nonsense
test_that "and is named on stderr" grep -q nonsense "$work/err"
test_that "with nothing on stdout" test ! -s "$work/out"
expect "an unknown option is a usage error" 2 "$drr" distill --nonsense
test_that "and is named on stderr" grep -q -e --nonsense "$work/err"
expect "a missing argument is a usage error" 2 "$drr" train
expect "a missing file is a failure" 1 "$drr" data show "$work/absent.jsonl"
test_that "that names the file" grep -q absent.jsonl "$work/err"

expect "doctor --json is a success" 0 "$drr" doctor --json
test_that "and prints one JSON object" json "$work/out" 'isinstance(j, dict)'
if [ -f "$cache/models/smollm2-135m.gguf" ]; then
    expect "doctor --reasoner loads the model" 0 "$drr" doctor --reasoner smollm2-135m --json
    test_that "and names the CPU path in use" json "$work/out" "j['reasoner']['cpu_path'] and j['reasoner']['cpu_features']"
    test_that "and what its first token is" json "$work/out" "j['reasoner']['first_logits']['verdict'] != 'WRONG'"
else
    skip "doctor --reasoner (smollm2-135m is not in the cache)"
fi

"$(dirname "$0")/questions.py" 6 >"$work/q.jsonl"
expect "data show reads a data set" 0 "$drr" data show "$work/q.jsonl"
expect "models list knows the table" 0 "$drr" models list
test_that "and the default reasoner" grep -q qwen2.5-coder-1.5b "$work/out"
if "$drr" --version | grep -q .; then
    run bash -c "'$drr' data show '$work/q.jsonl' | head -n 1"
    if [ "$status" -eq 0 ]; then ok "a closed pipe is no crash"; else not_ok "a closed pipe is no crash" "$(seen)"; fi
fi
finish
