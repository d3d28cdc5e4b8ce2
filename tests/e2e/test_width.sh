#!/usr/bin/env bash
# A width that does not fit into memory is lowered with a notice, not refused and not tried: with an address space of 2.5
# GB (ulimit), in which 64 sequences of SmolLM2-135M, 2.8 GiB of keys and values, cannot be.
. "$(dirname "$0")/lib.sh"
need smollm2-135m

narrow() { # narrow KIB ARGUMENTS...
    local most=$1
    shift
    run bash -c "ulimit -v $most || exit 77; exec \"\$@\"" - "$drr" reason --reasoner smollm2-135m --threads 1 --turn-tokens 4 \
        "What is 2 + 3?" "$@"
}
ran() { sed -n 's/.*, \([0-9]*\) sequences of 2048 tokens.*/\1/p' "$work/err"; }

narrow 2500000 --width 64
[ "$status" -eq 77 ] && skip_all "this shell cannot limit address space"
if [ "$status" -eq 0 ]; then ok "64 sequences where there is no room: an answer all the same"; else not_ok "64 sequences where there is no room: an answer all the same" "$(seen)"; fi
wide=$(ran)
test_that "with as many as fit" test "${wide:-0}" -ge 20 -a "${wide:-0}" -lt 64
test_that "and a warning that says how many, and what to do" grep -q "^warning: 64 sequences .* $wide at once instead; a smaller --context" "$work/err"
narrow 700000 --width 64
test_that "fewer where there is less" test "$(ran)" -ge 1 -a "$(ran)" -lt "${wide:-0}"
narrow 2500000 --width 8
test_that "what fits is not touched" test "$(ran)" -eq 8
test_that "and not spoken of" test "$(grep -c warning "$work/err")" -eq 0
narrow 700000
test_that "unasked, a width that fits is chosen without a word" test "$(ran)" -lt 16 -a "$(grep -c warning "$work/err")" -eq 0
finish
