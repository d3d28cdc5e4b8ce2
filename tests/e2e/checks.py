"""What the end-to-end scripts in Python share: where the command, its source and its cache are, running it to its end, made
questions and a store's traces as files, and check, which prints `ok - what` or `not ok - what` with what was seen."""
import json
import os
import subprocess

os.environ.pop("DRR_SHARE", None)  # the tests are of what the command finds by itself
ROOT = os.environ.get("DRR_SOURCE") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DRR = os.environ.get("DRR") or os.path.join(ROOT, "build", "release", "drr")
CACHE = os.environ.get("DRR_CACHE") or os.path.join(os.path.expanduser("~"), ".cache", "drr")
MODELS = {"smollm2-135m": "smollm2-135m.gguf", "all-minilm-l6-v2": os.path.join("all-minilm-l6-v2", "model.safetensors")}
_failures = 0


def check(what, good, *seen):
    global _failures
    _failures += not good
    print(f"{'ok' if good else 'not ok'} - {what}", flush=True)
    for text in seen if not good else ():
        print("  # " + str(text).strip().replace("\n", "\n  # "))


def failures():
    """How many checks were not good."""
    return _failures


def model_path(name):
    return os.path.join(CACHE, "models", MODELS[name])


def lacking(*models):
    """Why nothing can be tested: there is no command, or one of these models is not in the cache; else None."""
    if not os.access(DRR, os.X_OK):
        return f"there is no command at {DRR}: run make build"
    for name in models:
        if not os.path.exists(model_path(name)):
            return f"the model {name} is not in the cache: run tools/setup models {name}"
    return None


def run_drr(*words, folder, seconds=300, environment=None):
    """Runs the command to its end in this folder. Beside what subprocess.run gives: last, the last line that it said on stderr,
    and json, its stdout where that is JSON, else {}."""
    done = subprocess.run([DRR, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=seconds,
                          stdin=subprocess.DEVNULL, env=environment)
    done.last = (done.stderr.strip().splitlines() or [""])[-1]
    try:
        done.json = json.loads(done.stdout)
    except ValueError:
        done.json = {}
    return done


def write_questions(path, *words):
    """What questions.py says to these words (COUNT [FIRST] [--traces NAME]), into a file."""
    with open(path, "wb") as file:
        subprocess.run([os.path.join(ROOT, "tests", "e2e", "questions.py"), *words], stdout=file, check=True)


def read_traces(path):
    """What `drr traces export` wrote."""
    with open(path) as file:
        return [json.loads(line) for line in file]
