#!/usr/bin/env python3
"""Makes a torch from the Python registry import on a machine without CUDA, and without the 2 GB of CUDA libraries that it
asks for: torch_without_cuda.py TORCH_FOLDER

The registry's torch for Linux is built for CUDA as well as for the CPU, and its libraries name CUDA's, without which they are
not loaded. Nothing on the CPU's paths calls them. So each missing library is replaced by one of the same name and versions
whose functions do nothing, in TORCH_FOLDER/lib, where torch looks. What computes on the CPU is torch's own code, unchanged."""
import os
import re
import subprocess
import sys
import tempfile

NO_DEVICE = 100  # cudaErrorNoDevice
CUDA = re.compile(r"(cusparseLt|nccl|cuFile|nvshmem|cu[A-Z])\w*$")  # functions of libraries that have no versions


def readelf(*arguments):
    return subprocess.run(["readelf", "-W", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          check=True).stdout


def missing(folder):
    """{name of a library that is not there: {its versions}} and {version or None: {symbols}} of torch's libraries."""
    names, needs, symbols = set(), {}, {}
    libraries = [os.path.join(folder, name) for name in os.listdir(folder) if ".so" in name]
    for path in libraries:
        names |= set(re.findall(r"\(NEEDED\).*\[(.*)\]", readelf("-d", path)))
    have = {os.path.basename(path) for path in libraries}
    system = subprocess.run(["/sbin/ldconfig", "-p"], stdout=subprocess.PIPE, text=True, check=True).stdout
    wanted = {n for n in names if n not in have and not re.search(rf"^\s{re.escape(n)} ", system, re.M)}
    for path in libraries:
        library = None
        for line in readelf("-V", path).splitlines():
            found = re.search(r"Version: 1 +File: (\S+)", line)
            library = found[1] if found else library
            version = re.search(r"Name: (\S+) +Flags", line)
            if version and library in wanted:
                needs.setdefault(library, set()).add(version[1])
        for line in readelf("--dyn-syms", path).splitlines():
            symbol = re.search(r" UND (\w+)(?:@+(\S+))?", line)
            if symbol:
                symbols.setdefault(symbol[2], set()).add(symbol[1])
    return {name: needs.get(name, set()) for name in wanted}, symbols


def make(folder, name, versions, symbols):
    source, script, number = [], [], 0
    if not versions:
        source = [f"long {s}(void) {{ return 0; }}" for s in sorted(symbols.get(None, ())) if CUDA.match(s)]
    for version in sorted(versions):
        script.append(f"{version} {{ global: *;")
        for symbol in sorted(symbols.get(version, ())):
            number += 1
            result = NO_DEVICE if symbol == "cudaGetDeviceCount" else 0
            source.append(f"long stub_{number}(void) {{ return {result}; }}\n"
                          f'__asm__(".symver stub_{number}, {symbol}@@{version}");\n')
        script.append("};")
    with tempfile.TemporaryDirectory() as scratch:
        files = [os.path.join(scratch, "stub.c"), os.path.join(scratch, "stub.map")]
        for path, lines in zip(files, (source, script)):
            with open(path, "w") as out:
                out.write("\n".join(lines))
        subprocess.run(["cc", "-shared", "-fPIC", "-O0", "-o", os.path.join(folder, name), files[0], f"-Wl,-soname,{name}"] +
                       ([f"-Wl,--version-script,{files[1]}"] if versions else []), check=True)


def main():
    folder = os.path.join(sys.argv[1], "lib")
    libraries, symbols = missing(folder)
    for name, versions in sorted(libraries.items()):
        make(folder, name, versions, symbols)
        print(f"{name}: {len(versions)} versions")


if __name__ == "__main__":
    main()
