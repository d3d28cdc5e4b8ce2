#!/usr/bin/env bash
# drr doctor: what it says of this machine, and that what is wrong in a cache is named and makes the exit code 1.
. "$(dirname "$0")/lib.sh"
need
mkdir -p "$work/share" "$work/cache/models/folder"
cd "$work" || exit 1

# A table of small files, and a cache that holds all but one of them.
python3 - <<'PY'
import hashlib, json
def put(path, text):
    open("cache/" + path, "w").write(text)
    return hashlib.sha256(text.encode()).hexdigest()
def row(name, path, sha256, **more):
    return {"name": name, "file": path, "kind": "reasoner", "what": name, "licence": "none", "bytes": 5, "sha256": sha256, **more}
sound = put("models/sound.gguf", "sound")
words = put("models/folder/vocab.txt", "[PAD]\n")
weights = put("models/folder/model.safetensors", "weights")
put("models/nameless.gguf", "whatever")
json.dump({"models": [
    row("sound", "models/sound.gguf", sound), row("away", "models/away.gguf", sound),
    row("nameless", "models/nameless.gguf", None),
    row("folder", "models/folder", weights, main="model.safetensors", extract={"files": {"vocab.txt": {"sha256": words}}})]},
    open("share/models.json", "w"))
PY
doctor() { run env DRR_SHARE="$work/share" DRR_CACHE="$work/cache" "$drr" doctor "$@"; }
checksums="{m['name']: m['checksum'] for m in j['cache']}"

doctor --json
if [ "$status" -eq 0 ]; then ok "a sound cache is a success"; else not_ok "a sound cache is a success" "$(seen)"; fi
test_that "each model has its state" json "$work/out" \
    "$checksums == {'sound': 'good', 'away': 'absent', 'nameless': 'no checksum known', 'folder': 'good'} and j['problems'] == []"
test_that "and its sha256" json "$work/out" "[len(m['sha256'] or '') for m in j['cache']] == [64, 0, 64, 64]"
test_that "every library tells its version" json "$work/out" \
    "all(str(j['libraries'][name])[0].isdigit() for name in ('libllama', 'ggml', 'onednn', 'jansson', 'sqlite', 'zlib', 'utf8proc', 'openmp'))"
test_that "the CPU path is named" json "$work/out" "j['cpu'] and j['critic_arithmetic'] and j['reasoner']['cpu_path']"

printf 'S' | dd of=cache/models/sound.gguf conv=notrunc status=none
doctor --json
if [ "$status" -eq 1 ]; then ok "a damaged model is exit 1"; else not_ok "a damaged model is exit 1" "$(seen)"; fi
test_that "is WRONG in the report" json "$work/out" "$checksums['sound'] == 'WRONG' and len(j['problems']) == 1"
test_that "with its path and what to do" json "$work/out" \
    "'sound.gguf' in j['problems'][0] and 'drr models get --verify sound' in j['problems'][0]"
test_that "and stderr says so in a sentence" grep -q '^drr: 1 thing is wrong here' "$work/err"
doctor
if [ "$status" -eq 1 ] && grep -q WRONG "$work/out"; then ok "without --json too"; else not_ok "without --json too" "$(seen)"; fi
printf 'sound' >cache/models/sound.gguf

echo '[CLS]' >>cache/models/folder/vocab.txt
doctor --json
test_that "a folder is wrong when any of its files is" json "$work/out" \
    "$checksums['folder'] == 'WRONG' and 'vocab.txt' in j['problems'][0] and $status == 1"

real=$cache/models/smollm2-135m.gguf
if [ -f "$real" ]; then
    mkdir -p few/models
    head -c 1000000 "$real" >few/models/smollm2-135m.gguf
    run env DRR_CACHE="$work/few" "$drr" doctor --reasoner smollm2-135m --json
    test_that "a reasoner cut short is reported, not only refused" json "$work/out" \
        "j['reasoner']['first_logits']['verdict'] == 'WRONG' and len(j['problems']) == 2 and $status == 1"
    ln -sf "$real" few/models/smollm2-135m.gguf
    expect "the same model whole is a success" 0 env DRR_CACHE="$work/few" "$drr" doctor --reasoner smollm2-135m --json
    test_that "with its logits as stored" json "$work/out" "j['reasoner']['first_logits']['verdict'] == 'as stored'"
    python3 - "$work/out" <<'PY'
import json, sys
table = json.load(open(json.load(open(sys.argv[1]))["models_json"]))
next(m for m in table["models"] if m["name"] == "smollm2-135m")["first_logits"] = {"token": 1, "logit": 99.0}
json.dump(table, open("share/models.json", "w"))
PY
    expect "other logits than the stored ones are exit 1" 1 env DRR_SHARE="$work/share" DRR_CACHE="$work/few" "$drr" doctor \
        --reasoner smollm2-135m --json
    test_that "and say which token came and which should" json "$work/out" \
        "j['reasoner']['first_logits']['verdict'] == 'WRONG' and 'should be 1 at 99.00' in j['problems'][0]"
else
    skip "first logits (smollm2-135m is not in the cache)"
fi
finish
