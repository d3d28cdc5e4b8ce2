#!/usr/bin/env bash
# A remote reasoner for real: llama-server, from the same source as libllama, with an API key. Skipped where it has not been
# built: `tools/setup llama-tools` does that, in some minutes.
. "$(dirname "$0")/lib.sh"
need smollm2-135m
prefix=$("$source_root/tools/setup" --offline prefix 2>/dev/null) || prefix=
server=${DRR_LLAMA_SERVER:-$prefix/build/bin/llama-server}
[ -x "$server" ] || skip_all "there is no llama-server: run tools/setup llama-tools"
cd "$work" || exit 1
key=drr-test-key-$$-5f8a1c93
printf '%s\n' "$key" >keys
chmod 600 keys
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$server" -m "$cache/models/smollm2-135m.gguf" --host 127.0.0.1 --port "$port" -np 4 -c 8192 --api-key-file keys \
    >server.log 2>&1 &
server_pid=$!
trap 'kill "$server_pid" 2>/dev/null; wait "$server_pid" 2>/dev/null; clean_up' EXIT
url=http://127.0.0.1:$port/v1
unset DRR_UPSTREAM_API_KEY OPENAI_API_KEY
for _ in $(seq 100); do # until it listens; drr itself waits for the model (503)
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    kill -0 "$server_pid" 2>/dev/null || skip_all "llama-server does not start: $(tail -n 1 server.log)"
    sleep 0.2
done

"$source_root/tests/e2e/questions.py" 12 >questions.jsonl
ask=("$drr" distill --reasoner "$url" --data questions.jsonl --samples 2 --turns 2 --max-tokens 48 --width 4)
expect "distils through llama-server" 0 "${ask[@]}" --api-key-file keys --out traces.db
grep '^reasoner:' "$work/err" | sed 's/^/# /'
test_that "which shows log-probabilities" grep -q 'log-probabilities: yes' "$work/err"
test_that "and obeys a grammar" grep -q 'grammar: yes' "$work/err"
run "$drr" traces export traces.db --out traces.jsonl
test_that "each sample of each question is there once, with its log-probabilities" python3 - <<'PY'
import collections, json
rows = [json.loads(line) for line in open("traces.jsonl")]
count = collections.Counter((row["id"], row["sample"], row["turn"]) for row in rows)
assert len({(row["id"], row["sample"]) for row in rows}) == 24, len(rows)
assert max(count.values()) == 1
for row in rows:
    assert row["finish"] in ("answered", "stop", "length"), row
    assert not row["text"] or row["stats"]["n"] > 0 and -20 < row["stats"]["mean"] <= 0, row
    assert row["n_tokens"] <= 60, row
PY
expect "the same command has nothing left to do" 0 "${ask[@]}" --api-key-file keys --out traces.db
test_that "and asks nothing" bash -c "! grep -q ' answers, ' '$work/err'"

# The likeliest words are the same for both: the same weights and template behind one interface. Their arithmetic differs in its
# last bits, though (CPU variant, width of the batch), and a small model often wavers between two first words: so most, not all.
questions=("Is ice cold?" "What is 7 plus 5?" "Is the sun a star?" "How many legs has a spider?" "What is the capital of France?"
    "Is water wet?" "What is 100 divided by 4?" "Name the first month of the year." "Do fish live in water?" "What is 3 times 3?"
    "Is the moon bigger than the earth?" "How many days are in a week?")
for i in "${!questions[@]}"; do
    one=("$drr" reason "${questions[i]}" --turn-tokens 24 --json)
    expect "answers question $i" 0 "${one[@]}" --reasoner "$url" --api-key-file keys
    cp "$work/out" "remote.$i.json"
    expect "as the embedded one does" 0 "${one[@]}" --reasoner smollm2-135m
    cp "$work/out" "embedded.$i.json"
done
test_that "with the same greedy words to 7 of 12 or more" python3 - <<'PY'
import json
pairs = [[json.load(open(f"{name}.{i}.json"))["turns"][0]["text"] for name in ("remote", "embedded")] for i in range(12)]
alike = [a[:15] == b[:15] and bool(a) for a, b in pairs]
assert sum(alike) >= 7, [pair for pair, same in zip(pairs, alike) if not same]
PY
expect "distils under the grammar" 0 "${ask[@]}" --api-key-file keys --grammar --out grammar.db
run "$drr" traces export grammar.db --out grammar.jsonl
test_that "and every answer that came to its end can be read" python3 - <<'PY'
import json
rows = [json.loads(line) for line in open("grammar.jsonl")]
assert rows and all(row["answer"] is not None for row in rows if row["finish"] != "length"), rows
PY
expect "without the key it stops" 1 "$drr" reason "Is ice cold?" --reasoner "$url"
test_that "saying where the key goes" grep -q 'DRR_UPSTREAM_API_KEY' "$work/err"
expect "a wrong key stops too" 1 env DRR_UPSTREAM_API_KEY=wrong-key-123456 "$drr" reason "Is ice cold?" --reasoner "$url" --model x
test_that "and is not shown" bash -c "! grep -q wrong-key-123456 '$work/err'"

kill "$server_pid"
wait "$server_pid" 2>/dev/null
expect "a server that is gone is said at once" 1 env DRR_UPSTREAM_API_KEY="$key" "$drr" reason "Is ice cold?" --reasoner "$url" --model x
test_that "the key is in no file but its own" bash -c "! grep -rlF '$key' --exclude=keys ."
finish
