#!/usr/bin/env python3
"""CPU paths through the command: DRR_CPU_PATH, and what drr does when a path computes garbage. The garbage is real: in a
copy of libllama's CPU code one kernel, the rotation of positions, returns before it has written anything, as a
miscompiled one might. The command finds the copy because it lies beside the libllama that LD_LIBRARY_PATH names."""
import glob
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from checks import DRR, check, failures, lacking, model_path  # noqa: E402

KERNEL, RETURN = "ggml_compute_forward_rope", 0xC3
SUFFIX = ".so"


def skip_all(why):
    print(why)
    sys.exit(77)


def run(*words, **environment):
    clean = {k: v for k, v in os.environ.items() if k != "DRR_CPU_PATH"}
    return subprocess.run([DRR, *words], env={**clean, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=300)


def kernel_offset(data):
    """Where the kernel's code begins in the file, by its symbol (ELF, 64 bits, little endian)."""
    sections_at, = struct.unpack_from("<Q", data, 0x28)
    size, n = struct.unpack_from("<HH", data, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, sections_at + i * size) for i in range(n)]
    for _, kind, _, _, offset, length, link, *_ in sections:
        if kind != 11:  # SHT_DYNSYM
            continue
        names = sections[link][4]
        for at in range(offset, offset + length, 24):
            name, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", data, at)
            if 0 < section < n and data[names + name:data.index(b"\0", names + name)] == KERNEL.encode():
                return value - sections[section][3] + sections[section][4]
    return None


def break_path(file):
    with open(file, "rb") as f:
        data = bytearray(f.read())
    at = kernel_offset(bytes(data))
    if at is None:
        skip_all(f"{file} has no symbol {KERNEL}: this libllama's kernels cannot be broken from outside")
    data[at] = RETURN
    with open(file, "wb") as f:
        f.write(data)


def path_of(done):
    found = re.search(r"threads, CPU path (\S+) \(", done.stderr)
    return found[1] if found else None


def main():
    model, why = model_path("smollm2-135m"), lacking("smollm2-135m")
    if why:
        skip_all(why)
    with tempfile.TemporaryDirectory() as folder:
        cache = os.path.join(folder, "cache")  # of one model: the doctor computes checksums of all there are
        os.makedirs(os.path.join(cache, "models"))
        os.symlink(model, os.path.join(cache, "models", "smollm2-135m.gguf"))
        os.environ["DRR_CACHE"] = cache
        examine(folder)
    return 1 if failures() else 0


def reason(**environment):
    return run("reason", "--reasoner", "smollm2-135m", "--width", "1", "--turn-tokens", "8", "--kind", "number",
               "What is 2 + 3?", **environment)


def examine(folder):
    report = json.loads(run("doctor", "--json").stdout)
    paths, library = report["reasoner"]["cpu_paths"], report["libraries"]["libllama_file"]
    check("the best path is in use", report["reasoner"]["cpu_path"] == paths[0], paths)
    done = reason(DRR_CPU_PATH="abacus")
    check("DRR_CPU_PATH of no path is refused with the paths there are",
          done.returncode == 1 and all(name in done.stderr for name in ["abacus", *paths]), done.stderr)
    check("in one line", done.stderr.count("\n") == 1, done.stderr)
    if len(paths) < 3:
        print(f"skip - a broken path: this libllama has no more than {', '.join(paths)}")
        return
    done = reason(DRR_CPU_PATH=paths[1])
    check("DRR_CPU_PATH chooses another", done.returncode == 0 and path_of(done) == paths[1], done.stderr)

    lib, bin_ = os.path.join(folder, "lib"), os.path.join(folder, "bin")
    os.mkdir(lib)
    os.mkdir(bin_)
    for file in glob.glob(os.path.join(os.path.dirname(library), "*" + SUFFIX + "*")):
        os.symlink(file, os.path.join(lib, os.path.basename(file)))
    sources = {}
    for place in ("", "../bin", "../lib"):
        for file in glob.glob(os.path.join(os.path.dirname(library), place, f"libggml-cpu-*{SUFFIX}")):
            sources[os.path.basename(file)] = file
    for name, file in sources.items():
        shutil.copy(file, os.path.join(bin_, name))
        if os.path.islink(os.path.join(lib, name)):
            os.unlink(os.path.join(lib, name))
    os.environ["LD_LIBRARY_PATH"] = lib
    report = json.loads(run("doctor", "--json").stdout)
    if not report["libraries"]["libllama_file"].startswith(folder):
        print("skip - a broken path: this command does not follow LD_LIBRARY_PATH")
        return
    files = {path: os.path.join(bin_, f"libggml-cpu-{path}{SUFFIX}") for path in paths}

    done = reason()
    check("a copy of all paths works as they do", done.returncode == 0 and path_of(done) == paths[0] and
          "garbage" not in done.stderr, done.stderr)
    break_path(files[paths[0]])
    done = reason()
    check("where the best path computes garbage, the next is used", done.returncode == 0 and path_of(done) == paths[1],
          done.stderr)
    check("and a warning names both", f"CPU path {paths[0]} " in done.stderr and f"the path {paths[1]}, which is slower" in
          done.stderr, done.stderr)
    break_path(files[paths[1]])
    done = reason()
    check("or the one after that", done.returncode == 0 and path_of(done) == paths[2], done.stderr)
    done = reason(DRR_CPU_PATH=paths[1])
    check("a path that was asked for is refused, not replaced", done.returncode == 1 and "drr doctor" in done.stderr and
          path_of(done) is None, done.stderr)
    done = run("doctor", "--reasoner", "smollm2-135m", "--json")
    found = json.loads(done.stdout)
    others = found["reasoner"]["first_logits"].get("other_paths", {})
    check("the doctor says so and exits with 1", done.returncode == 1 and len(found["problems"]) == 1 and
          f"goes on with the path {paths[2]}" in found["problems"][0], done.stdout)
    check("and what each other path does", others == {path: "WRONG" if path == paths[1] else "as stored"
                                                      for path in paths[1:]}, others)
    break_path(files[paths[-1]])
    done = reason()
    check("where the plainest is wrong too, nothing is used", done.returncode == 1 and
          f"nor on the plainest path, {paths[-1]}" in done.stderr and path_of(done) is None, done.stderr)


if __name__ == "__main__":
    sys.exit(main())
