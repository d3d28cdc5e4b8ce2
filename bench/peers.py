"""What the benchmarks share: Pythons with their peers, made in the cache of pinned and checked wheels."""
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tools"))
sys.dont_write_bytecode = True
from fetch import Trouble, cache_root, locked, make_folder, say, sha256_of  # noqa: E402

PINNED = os.path.join(ROOT, "bench", "requirements-peers.txt")
PINNED_SERVE = os.path.join(ROOT, "bench", "requirements-serve.txt")
TRIM = os.path.join(ROOT, "bench", "torch_without_cuda.py")


def made_python(name, what, pinned, *more):
    """The interpreter of CACHE/NAME, made of the wheels that the file pins, and by these further commands of it."""
    folder = os.path.join(cache_root(), name)
    marker = os.path.join(folder, "-".join(["complete", sha256_of(pinned)[:12]] + [sha256_of(step[0])[:12] for step in more if
                                                                                  os.path.exists(step[0])]))
    python = os.path.join(folder, "bin", "python")
    with locked(name):
        if os.path.exists(marker):
            return python
        say(what)
        make_folder(cache_root())
        shutil.rmtree(folder, ignore_errors=True)
        steps = [["/usr/bin/python3", "-m", "venv", folder],
                 [python, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", pinned]]
        for step in steps + [[python, *step] for step in more]:
            if subprocess.run(step, stdout=sys.stderr).returncode:
                raise Trouble(f"the peers' Python could not be made in {folder} (see above)")
        with open(marker, "w", encoding="utf-8") as file:
            file.write("installed\n")
    return python


def peers_python():
    """torch, transformers and ONNX Runtime; CUDA's libraries are not fetched. DRR_PARITY_PYTHON names another Python."""
    return os.environ.get("DRR_PARITY_PYTHON") or made_python(
        "venv-peers", "peers: making a Python with torch and ONNX Runtime; 700 MB to fetch, a few minutes, once", PINNED,
        [TRIM, os.path.join(cache_root(), "venv-peers", "lib", "python3.11", "site-packages", "torch")],
        ["-c", "import torch, transformers, onnxruntime; torch.ones(8, 8) @ torch.ones(8, 8)"])


def optillm_python():
    """optillm's proxy and what it imports."""
    return made_python("venv-serve", "peers: making a Python with optillm; 100 MB to fetch, a minute, once", PINNED_SERVE,
                       ["-c", "import optillm.server"])


def find(path, what):
    if not os.path.exists(path):
        raise Trouble(f"{path} is missing: {what}")
    return path
