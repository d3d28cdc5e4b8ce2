# Read by the end-to-end scripts: `. "$(dirname "$0")/lib.sh"`. A check prints `ok - what` or `not ok - what` with what was
# seen; `finish` gives the script's exit code. Each script works in a folder of its own ($work), removed at the end.
set -u
unset DRR_SHARE # the tests are of what the command finds by itself
source_root=${DRR_SOURCE:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
drr=${DRR:-$source_root/build/release/drr}
cache=${DRR_CACHE:-$HOME/.cache/drr}
work=$(mktemp -d "${TMPDIR:-/tmp}/drr-e2e.XXXXXX")
failures=0
clean_up() { rm -rf "$work"; }
trap clean_up EXIT

ok() { echo "ok - $1"; }
not_ok() {
    echo "not ok - $1"
    failures=$((failures + 1))
    shift
    [ $# -eq 0 ] || printf '  # %s\n' "$@"
}
skip() { echo "skip - $1"; }
skip_all() { echo "$1"; exit 77; }
finish() { [ "$failures" -eq 0 ]; exit; }

# run COMMAND...: leaves $status, $work/out and $work/err. The command has no standard input: a script in a here-document goes
# to test_that.
run() {
    status=0
    timeout 600 "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
}

seen() {
    echo "exit $status"
    head -c 600 "$work/out" | sed 's/^/out: /'
    tail -n 5 "$work/err" | cut -c 1-400 | sed 's/^/err: /'
}

# expect WHAT STATUS COMMAND...
expect() {
    local what=$1 want=$2
    shift 2
    run "$@"
    if [ "$status" -eq "$want" ]; then ok "$what"; else not_ok "$what" "wanted exit $want from: $*" "$(seen)"; fi
}

# test_that WHAT COMMAND...: the command must succeed
test_that() {
    local what=$1
    shift
    if "$@" >"$work/seen" 2>&1; then ok "$what"; else not_ok "$what" "failed: $*" "$(head -c 600 "$work/seen")"; fi
}

# json FILE EXPRESSION: a python expression over `j`, printed; fails when it is false or cannot be computed
json() {
    python3 - "$1" "$2" <<'PY'
import json, sys
j = json.load(open(sys.argv[1]))
value = eval(sys.argv[2])
print(value)
sys.exit(0 if value or value == 0 and value is not False else 1)
PY
}

# need MODEL...: skips the script where there is no command, or one of these models is not in the cache
need() {
    local name file
    [ -x "$drr" ] || skip_all "there is no command at $drr: run make build"
    for name; do
        file=$name.gguf
        [ "$name" != all-minilm-l6-v2 ] || file=$name/model.safetensors
        [ -e "$cache/models/$file" ] || skip_all "the model $name is not in the cache: run tools/setup models $name"
    done
}
