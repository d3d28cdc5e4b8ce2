#!/usr/bin/env bash
# `cmake --install`: the command works from any folder with the source tree gone, and a C program links with the library.
. "$(dirname "$0")/lib.sh"
build=$source_root/build/release
[ -f "$build/cmake_install.cmake" ] || skip_all "there is no build in $build: run make build"
expect "cmake --install" 0 cmake --install "$build" --prefix "$work/first"
mv "$work/first" "$work/moved" # its own place is all it may rely on
drr=$work/moved/bin/drr
cd "$work" || exit 1

test_that "the table and the fetcher are in share/drr" test -f moved/share/drr/models.json -a -x moved/share/drr/fetch.py
test_that "and the pages that helps name in share/doc" test -f moved/share/doc/drr/docs/steps.md -a -f moved/share/doc/drr/README.md
sed -i 's/"name": "mmlu"/"name": "only-here"/' moved/share/drr/models.json
expect "models list" 0 "$drr" models list
test_that "reads the installed table" grep -q only-here "$work/out"
expect "the fetcher reads it too" 1 "$drr" models get --offline nobody
test_that "and lists its names" grep -q only-here "$work/err"
sed -i 's/"name": "only-here"/"name": "mmlu"/' moved/share/drr/models.json

# docs/install.md's line, for a program that lies elsewhere
cat >mine.c <<'C'
#include <drr.h>
#include <stdio.h>
int main(void)
{
    drr_critic *critic = NULL;
    drr_reasoner *reasoner = NULL; /* these two link all that the library stands on */
    drr_store *store = NULL;
    drr_error err = {0};
    if (drr_reasoner_open(&reasoner, "http://127.0.0.1:1/v1?", NULL, &err) == DRR_OK)
        return 1;
    if (drr_store_open(&store, "postgres://[", false, &err) == DRR_OK)
        return 1;
    if (drr_critic_open(&critic, "absent.gguf", &err) == DRR_OK)
        return 1;
    puts(err.message);
    return 0;
}
C
# shellcheck disable=SC2046
expect "a C program links with the library" 0 cc mine.c -Imoved/include -Lmoved/lib -ldrr -Lmoved/lib/drr "-Wl,-rpath,$work/moved/lib/drr" \
    -lllama -lggml -lggml-base -ldnnl $(pkg-config --libs jansson sqlite3 zlib libutf8proc libcurl libpq libmicrohttpd gnutls) -fopenmp -lstdc++ -lm -o mine
expect "and runs" 0 ./mine
test_that "and gets the library's sentences" grep -q absent.gguf "$work/out"

# Nothing that it loads may lie in a home, where a service's ProtectHome hides it: libllama is the system's, or comes along.
ldd "$drr" mine moved/lib/drr/libggml-cpu-*.so >loaded 2>&1
test_that "every library is found" bash -c '! grep "not found" loaded'
test_that "and is the installed one or the system's" bash -c '! grep "=> /" loaded | grep -vE "=> (/lib|/usr|$1/)"' - "$work/moved"
test_that "and no other place is looked into" bash -c '! readelf -d "$1" | grep -E "RUNPATH|RPATH" | grep -vE "\[(\\\$ORIGIN/\.\./lib/drr|/usr/.*)\]"' - "$drr"

# An empty folder is mounted over the source tree, and one over the cache's libllama, for these commands alone.
mkdir -p "$work/empty"
llama=$cache/llama
[ -d "$llama" ] || llama=$work/empty
hidden=(unshare -m sh -c 'mount -t tmpfs none "$1" && mount -t tmpfs none "$2" && shift 2 && exec "$@"' - "$source_root" "$llama")
case $cache/ in "$source_root"/*) inside=yes ;; *) inside= ;; esac
if [ -z "$inside" ] && "${hidden[@]}" test ! -e "$source_root/CMakeLists.txt" 2>/dev/null; then
    expect "models list without the source tree" 0 "${hidden[@]}" "$drr" models list
    test_that "knows the table" grep -q qwen2.5-coder-1.5b "$work/out"
    expect "models get without the source tree" 1 "${hidden[@]}" env DRR_CACHE="$work/none" "$drr" models get --offline smollm2-135m
    test_that "reaches the fetcher" grep -q '^fetch.py: smollm2-135m' "$work/err"
    if [ -f "$cache/models/smollm2-135m.gguf" ]; then
        mkdir -p few/models && ln -s "$cache/models/smollm2-135m.gguf" few/models/
        expect "doctor --reasoner without the source tree" 0 "${hidden[@]}" env DRR_CACHE="$work/few" "$drr" doctor \
            --reasoner smollm2-135m --json
        test_that "has the stored logits" json "$work/out" "j['reasoner']['first_logits']['verdict'] == 'as stored'"
        here=$(find moved/lib/drr -name 'libggml-cpu-*.so' | wc -l) # 0: the system's
        test_that "and the CPU paths that were installed" json "$work/out" "$here == 0 or len(j['reasoner']['cpu_paths']) > 1"
    else
        skip "doctor without the source tree (smollm2-135m is not in the cache)"
    fi
    mv moved/share/drr moved/share/away
    expect "without its table it fails" 1 "${hidden[@]}" "$drr" models list
    test_that "and says where it looked and what to do" grep -q 'models.json.*share/drr.*DRR_SHARE' "$work/err"
    expect "unless DRR_SHARE names the folder" 0 "${hidden[@]}" env DRR_SHARE="$work/moved/share/away" "$drr" models list
    mv moved/share/away moved/share/drr
else
    skip "the source tree gone (hiding it needs root, and the cache outside of it)"
fi
finish
