#!/usr/bin/env bash
# Training, and all that follows it, with a malloc beneath it under which a program dies where it misuses memory, oneDNN's
# generated code included (tests/guard/guard_malloc.c): from beginning to end in bf16, and stopped in the middle by SIGTERM.
. "$(dirname "$0")/lib.sh"
need all-minilm-l6-v2
guard=$(dirname "$drr")/tests/libguard_malloc.so
[ -f "$guard" ] || skip_all "there is no $guard: builds with sanitizers and installed commands have none"
cd "$work" || exit 1
"$source_root/tests/e2e/questions.py" 60 --traces first >traces.jsonl
train=("$drr" train --traces traces.jsonl --encoder all-minilm-l6-v2 --max-length 32 --max-questions 40 --precision auto)

cat >misuse.c <<'C'
#include <stdlib.h>
int main(int argc, char **argv) { (void)argv; volatile char *p = malloc(5000); p[5000 + 16 * argc] = 1; return 0; }
C
if cc -o misuse misuse.c 2>/dev/null; then
    LD_PRELOAD=$guard ./misuse 2>/dev/null
    test_that "a write past an allocation is the program's end" test $? -ge 128
fi
expect "training under it ends well" 0 env LD_PRELOAD="$guard" "${train[@]}" --out whole.gguf --epochs 1
test_that "and nothing was misused" bash -c "! grep -q guard_malloc: '$work/err'"
test_that "it leaves critic and card" test -f whole.gguf -a -f whole.card.md

LD_PRELOAD=$guard "${train[@]}" --out half.gguf --epochs 400 --patience 0 >half.out 2>half.err &
job=$!
for _ in $(seq 1200); do
    grep -q 'epoch 1 of 400' half.err && break
    kill -0 $job 2>/dev/null || break
    sleep 0.1
done
sleep 0.3
kill -TERM $job 2>/dev/null
wait $job
status=$?
if [ $status -eq 130 ] && grep -q 'drr: interrupted' half.err && ! grep -q guard_malloc: half.err; then
    ok "SIGTERM in the middle ends it in order"
else
    not_ok "SIGTERM in the middle ends it in order" "exit $status: $(tail -n 3 half.err)"
fi
test_that "with a checkpoint" test -f half.gguf.checkpoint
finish
