#!/usr/bin/env bash
# tools/check itself: in a copy of the tree, each kind of violation is planted once and must be found by name.
. "$(dirname "$0")/lib.sh"
tree=$work/tree
mkdir -p "$tree"
(cd "$source_root" && git ls-files -co --exclude-standard -z | grep -zv '^tests/e2e/' |
    while IFS= read -r -d '' file; do [ -e "$file" ] && printf '%s\0' "$file"; done |
    tar --null -T - -cf -) | tar -xf - -C "$tree"
cd "$tree" || exit 1

# plant WHAT CHECK FILE TEXT PATTERN: after adding TEXT to FILE, `tools/check CHECK` fails with a line like PATTERN
plant() {
    local what=$1 check=$2 file=$3 text=$4 pattern=$5 kept=
    [ -e "$file" ] && kept=$work/kept && cp "$file" "$kept"
    mkdir -p "$(dirname "$file")"
    printf '%b\n' "$text" >>"$file"
    run tools/check "$check"
    if [ "$status" -eq 1 ] && grep -qE "^$file(:[0-9]+)?: .*$pattern" "$work/out"; then
        ok "found: $what"
    else
        not_ok "found: $what" "$(seen)"
    fi
    if [ -n "$kept" ]; then cp "$kept" "$file"; else rm "$file"; fi
}

expect "an untouched tree passes" 0 tools/check layers length banned headers paths scripts
plant "task includes what is above it" layers src/task/planted.c '#include "loop/loop.h"' 'task may not include loop'
plant "cli includes more than the public header" layers src/cli/planted.c '#include "core/core.h"' 'cli sees drr.h'
plant "a folder reaches into another's internals" layers src/loop/planted.c '#include "critic/x_internal.h"' 'internal'
plant "a third-party header outside its folder" layers src/loop/planted.c '#include <llama.h>' 'belongs to reasoner'
plant "a third-party header of no folder" layers src/core/planted.c '#include <openssl/ssl.h>' 'third-party'
plant "a folder that LAYERS does not know" layers src/planted/planted.c 'int planted;' 'no line for the folder'
plant "a rule that points up the flow" layers src/LAYERS 'planted: not_there' 'one way'
plant "code that clang-format would change" format src/core/planted.c 'int  planted( void ){return 1;}' 'make format'
plant "a file of 601 lines" length src/core/planted.c "$(printf 'int planted;\\n%.0s' $(seq 601))" 'more than 600'
plant "a banned call" banned src/cli/planted.c 'void f(char *a) { strcpy(a, "x"); }' 'strcpy\(\) is banned'
plant "a print from the library" banned src/core/planted.c 'void f(void) { printf("x"); }' 'printf\(\) is banned'
plant "an exit from the library" banned src/core/planted.c 'void f(void) { exit(1); }' 'exit\(\) is banned'
plant "a header that leans on others" headers include/planted.h 'size_t planted(void);' 'does not compile alone'
plant "a part of drr.h by itself" layers src/core/planted.c '#include "drr/task.h"' 'part of drr.h'
plant "a part that leans on others" headers include/drr/planted.h 'size_t planted(void);' 'does not compile alone'
plant "a header that is not C++" headers include/planted.h 'int planted(int class);' 'does not compile alone with c\+\+'
plant "a path of one machine" paths docs/planted.md 'see /ro''ot/data' 'one machine'
plant "a registry's host" paths docs/planted.md 'from pypi''.org' 'not the registry'
plant "a script that does not parse" scripts tools/planted.sh 'if then' 'does not parse'

printf '/* strcpy(a, b) in words */\nconst char *planted = "printf(gmtime(";\n' >src/core/planted.c
expect "words in comments and strings are not calls" 0 tools/check banned
finish
