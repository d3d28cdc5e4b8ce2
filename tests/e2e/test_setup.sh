#!/usr/bin/env bash
# tools/setup where it cannot do its work: packages that it may not install, no network, an empty cache, an interruption.
# dpkg, apt-get and sudo are stand-ins that say what the case needs, so that the machine is not changed.
. "$(dirname "$0")/lib.sh"
chmod 755 "$work"
mkdir "$work/bin" "$work/tree"
cp -r "$source_root/tools" "$work/tree/"
stand_in() {
    printf '#!/bin/sh\n%s\n' "$2" >"$work/bin/$1"
    chmod 755 "$work/bin/$1"
}
one_sentence() { [ "$(grep -c '^setup: ' "$work/err")" -eq 1 ] && ! grep -q Traceback "$work/err"; }
says() {
    local what=$1
    shift
    local word
    one_sentence || { not_ok "$what" "$(seen)"; return; }
    for word; do grep -qF -- "$word" "$work/err" || { not_ok "$what" "no \"$word\"" "$(seen)"; return; }; done
    ok "$what"
}
as() { # as USER-ID: with the stand-ins first on the path
    local user=$1
    shift
    if [ "$user" = "$(id -u)" ]; then
        env PATH="$work/bin:$PATH" DRR_CACHE="$work/cache" "$@"
    else
        setpriv --reuid="$user" --clear-groups env PATH="$work/bin:/usr/bin:/bin" DRR_CACHE="$work/cache" HOME="$work" "$@"
    fi
}
export -f as
export work

stand_in dpkg 'exit 1'
stand_in apt-get 'echo "apt-get $*"; exit 100'
stand_in sudo 'exit 1'

user=$(id -u)
[ "$user" -ne 0 ] || user=65534
if as "$user" test -r "$work/tree/tools/setup" 2>/dev/null; then
    expect "a user who may not install stops" 1 bash -c "as $user python3 '$work/tree/tools/setup' packages"
    says "and sees the exact command" "sudo apt-get update && sudo apt-get install -y --no-install-recommends cmake ninja-build"
else
    skip "a user who may not install (no other user can be taken on here)"
fi
expect "--offline installs nothing" 1 bash -c "as $(id -u) '$work/tree/tools/setup' --offline packages"
says "and names what is missing" "--offline" "libdnnl-dev" "libjansson-dev"
if [ "$(id -u)" -eq 0 ]; then
    expect "a failing apt-get fails the set-up" 1 bash -c "as 0 '$work/tree/tools/setup' packages"
    says "in one sentence" "apt-get could not install" "is there a network?"
fi

printf '#!/bin/sh\necho "Package: $2"; echo "Status: install ok installed"\n' >"$work/bin/dpkg"
expect "installed packages are left alone" 0 bash -c "as $(id -u) '$work/tree/tools/setup' packages"
expect "--offline with an empty cache stops" 1 bash -c "DRR_LLAMA=own as $(id -u) '$work/tree/tools/setup' --offline llama"
says "and says that llama.cpp's source is missing" "llama.cpp's source is not in the cache" "--offline"
expect "no network stops" 1 bash -c "DRR_LLAMA=own PIP_NO_INDEX= PIP_FIND_LINKS= PIP_INDEX_URL=http://127.0.0.1:9/none \
    as $(id -u) '$work/tree/tools/setup' llama"
says "and says so" "cannot be reached" "run the same command again"
expect "a wrong DRR_LLAMA_PREFIX stops" 1 bash -c "DRR_LLAMA_PREFIX=$work as $(id -u) '$work/tree/tools/setup' llama"
says "and says what is missing there" "include/llama.h"
expect "an unknown model stops" 1 bash -c "as $(id -u) '$work/tree/tools/setup' models nobody"
says "and lists the known ones" "nobody" "smollm2-135m"
expect "an unknown target is a usage error" 2 bash -c "as $(id -u) '$work/tree/tools/setup' nonsense"
finish
