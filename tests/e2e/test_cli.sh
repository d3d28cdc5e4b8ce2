#!/usr/bin/env bash
# What a person or a script meets first: help, version, exit codes, where words go.
. "$(dirname "$0")/lib.sh"
need

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
expect "--help is no file's name" 0 "$drr" eval --suite --help
test_that "but asks for help, with examples" grep -q "drr eval --suite study.toml" "$work/out"
expect "nor is it where an option's value stands" 0 "$drr" eval --data --help
test_that "and the command's own help comes" grep -q "drr eval --data csqa.dev.jsonl" "$work/out"
expect "the short form as well" 0 "$drr" train --traces -h
expect "another option is no value either" 2 "$drr" eval --data --json
test_that "which is said of both" grep -q -e "--data needs a value, and --json is another option" "$work/err"
test_that "with nothing on stdout" test ! -s "$work/out"
expect "-t is --threads" 2 "$drr" train -t many
test_that "as the sentence about its value says" grep -q -e "--threads takes a whole number" "$work/err"
expect "-m and -t need a value" 2 "$drr" serve -m
test_that "which is said of them as they were written" grep -q -e "-m needs a value" "$work/err"
expect "a letter is known only where its option is" 2 "$drr" critic show -t 2
test_that "and the help has them" bash -c "'$drr' serve --help | grep -q -e '^  -m, --model NAME'"
expect "unless it is written as one" 1 "$drr" data show --format=--json "$work/absent.jsonl"
expect "a missing file is a failure" 1 "$drr" data show "$work/absent.jsonl"
test_that "that names the file" grep -q absent.jsonl "$work/err"

expect "doctor --json is a success" 0 "$drr" doctor --json
test_that "and prints one JSON object" json "$work/out" 'isinstance(j, dict)'
if [ -f "$cache/models/smollm2-135m.gguf" ]; then
    expect "doctor --reasoner loads the model" 0 "$drr" doctor --reasoner smollm2-135m --json
    test_that "and names the CPU path in use, and no feature that this CPU has not" python3 - "$work/out" "$drr" <<'PY'
import glob, json, os, re, subprocess, sys
said = json.load(open(sys.argv[1]))["reasoner"]
path, features = said["cpu_path"], said["cpu_features"]
linked = subprocess.run(["ldd", sys.argv[2]], capture_output=True, text=True).stdout
folders = {os.path.dirname(name) for name in re.findall(r"=> (\S*libggml\S*)", linked)}
near = [name for folder in folders for place in (folder, f"{folder}/../bin") for name in glob.glob(f"{place}/libggml-cpu-{path}.*")]
assert path == "built in" or near, f"there is no libggml-cpu-{path} in {folders}"
flags = set(re.search(r"^(?:flags|Features)\s*: (.*)", open("/proc/cpuinfo").read(), re.M)[1].split())
names = {"SSE3": "pni", "SSSE3": "ssse3", "AVX": "avx", "AVX2": "avx2", "F16C": "f16c", "FMA": "fma", "BMI2": "bmi2",
         "AVX512": "avx512f", "AVX512_VNNI": "avx512_vnni", "AMX_INT8": "amx_int8", "NEON": "asimd", "SVE": "sve"}
claimed = [name for name, value in re.findall(r"(\w+) = (\d)", features) if value == "1" and name in names]
assert claimed, features
missing = [name for name in claimed if names[name] not in flags]
assert not missing, f"not in /proc/cpuinfo: {missing}"
PY
    test_that "and what its first token is" json "$work/out" "j['reasoner']['first_logits']['verdict'] != 'WRONG'"
else
    skip "doctor --reasoner (smollm2-135m is not in the cache)"
fi

"$(dirname "$0")/questions.py" 6 >"$work/q.jsonl"
expect "data show reads a data set" 0 "$drr" data show "$work/q.jsonl"
expect "models list knows the table" 0 "$drr" models list
test_that "and the default reasoner" grep -q qwen2.5-coder-1.5b "$work/out"

# More than a pipe holds (64 KiB), so that the reader is gone while there is still something to write.
"$(dirname "$0")/questions.py" 4000 >"$work/many.jsonl"
closed_pipe() { # closed_pipe HOW-SIGPIPE-IS-TAKEN: leaves the first line, the exit code of drr and what it said
    env "--$1-signal=PIPE" bash -c "'$drr' data show --n 0 '$work/many.jsonl' 2>'$work/err' | head -n 1
        echo \${PIPESTATUS[0]}" >"$work/out"
    status=$(tail -n 1 "$work/out")
}
closed_pipe default
if [ "$status" -eq 141 ] && grep -q '^q000' "$work/out" && [ ! -s "$work/err" ]; then
    ok "a closed pipe ends it without a word"
else
    not_ok "a closed pipe ends it without a word" "$(seen)"
fi
closed_pipe ignore
if [ "$status" -eq 1 ] && grep -q 'cannot be written: Broken pipe' "$work/err"; then
    ok "and is an error like any other where the signal is ignored"
else
    not_ok "and is an error like any other where the signal is ignored" "$(seen)"
fi
finish
