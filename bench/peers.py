"""What the benchmarks of critics share: a Python with a current torch, transformers and ONNX Runtime, made in the cache."""
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tools"))
sys.dont_write_bytecode = True
from fetch import Trouble, cache_root, locked, make_folder, say, sha256_of  # noqa: E402

PINNED = os.path.join(ROOT, "bench", "requirements-peers.txt")
TRIM = os.path.join(ROOT, "bench", "torch_without_cuda.py")


def peers_python():
    """The interpreter. DRR_PARITY_PYTHON names another one. Wheels are pinned and checked; CUDA's are not fetched."""
    given = os.environ.get("DRR_PARITY_PYTHON")
    if given:
        return given
    folder = os.path.join(cache_root(), "venv-peers")
    marker = os.path.join(folder, f"complete-{sha256_of(PINNED)[:12]}-{sha256_of(TRIM)[:12]}")
    python = os.path.join(folder, "bin", "python")
    with locked("venv-peers"):
        if os.path.exists(marker):
            return python
        say("peers: making a Python with torch and ONNX Runtime; 700 MB to fetch, a few minutes, once")
        make_folder(cache_root())
        shutil.rmtree(folder, ignore_errors=True)
        steps = [["/usr/bin/python3", "-m", "venv", folder],
                 [python, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", PINNED],
                 [sys.executable, TRIM, os.path.join(folder, "lib", "python3.11", "site-packages", "torch")],
                 [python, "-c", "import torch, transformers, onnxruntime; torch.ones(8, 8) @ torch.ones(8, 8)"]]
        for step in steps:
            if subprocess.run(step, stdout=sys.stderr).returncode:
                raise Trouble(f"the peers' Python could not be made in {folder} (see above)")
        with open(marker, "w", encoding="utf-8") as file:
            file.write("installed\n")
    return python


def find(path, what):
    if not os.path.exists(path):
        raise Trouble(f"{path} is missing: {what}")
    return path
