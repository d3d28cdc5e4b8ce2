"""Read by bench/feedback and bench/early-rejection: the same questions under two policies or more, from one cache of texts, and
paired intervals over questions."""
import json
import os
import random
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tools"))
sys.dont_write_bytecode = True
from fetch import Trouble, say  # noqa: E402


def options(parser, limit):
    """Adds what both scripts take."""
    parser.add_argument("--data", required=True, help="questions with answers")
    parser.add_argument("--critic", required=True)
    parser.add_argument("--reasoner", default="qwen2.5-coder-1.5b")
    parser.add_argument("--limit", type=int, default=limit, help="first questions only; 0: all")
    parser.add_argument("--max-turns", type=int, default=3)
    parser.add_argument("--turn-tokens", type=int, default=200)
    parser.add_argument("--width", type=int, default=0, help="answers written at once; 0: by cores and memory")
    parser.add_argument("--context", type=int, default=0, help="tokens of one; 0: as the model allows")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--threshold", type=float, help="not given: the critic's own")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resamples", type=int, default=10000)
    parser.add_argument("--out", help="where texts and answers are kept, so that a run that was stopped goes on; not given: runs/NAME")
    parser.add_argument("--quick", action="store_true", help="8 questions, to see that it runs")


def solve(arguments, out, name, *more):
    """`drr eval` of drr alone under one policy: {(task, id): its row of questions.jsonl}, and the strategy's figures."""
    drr = os.environ.get("DRR_DRR") or os.path.join(ROOT, "build", "release", "drr")
    if not os.access(drr, os.X_OK):
        raise Trouble(f"{drr} is not there: tools/setup build makes it")
    words = [drr, "eval", "--strategies", "drr", "--bootstrap", "0", "--json", "--out", out, "--data", arguments.data, "--critic",
             arguments.critic, "--reasoner", arguments.reasoner, "--limit", str(8 if arguments.quick else arguments.limit),
             "--width", str(arguments.width), "--context", str(arguments.context), "--threads", str(arguments.threads),
             "--max-turns", str(arguments.max_turns), "--turn-tokens", str(arguments.turn_tokens), "--seed", str(arguments.seed)]
    if arguments.threshold is not None:
        words += ["--threshold", str(arguments.threshold)]
    say(f"{name}: {' '.join(more)}")
    done = subprocess.run(words + list(more), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise Trouble(f"{name}: drr eval failed, as said above")
    tasks = json.loads(done.stdout)["tasks"]
    path = os.path.join(out, "questions.jsonl")
    os.replace(path, os.path.join(out, f"questions.{name}.jsonl"))
    with open(os.path.join(out, f"questions.{name}.jsonl"), encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return {(row["task"], row["id"]): row for row in rows}, next(iter(tasks.values()))["strategies"]["drr"]


def interval(statistic, n, resamples, seed):
    """The statistic of all n questions, and 95 % of its bootstrap over questions; statistic(list of indices)."""
    draw = random.Random(seed)
    values = sorted(statistic([draw.randrange(n) for _ in range(n)]) for _ in range(resamples))
    low, high = (values[min(int(share * resamples), resamples - 1)] for share in (0.025, 0.975)) if resamples else (float("nan"),) * 2
    return statistic(range(n)), low, high


def mean_difference(a, b):
    return lambda picked: sum(a[i] - b[i] for i in picked) / len(picked)


def share_saved(a, b):
    """Of a's sum, how much b does without."""
    return lambda picked: 1 - sum(b[i] for i in picked) / max(1, sum(a[i] for i in picked))


def of_all(rows, keys, name):
    return [float(rows[key][name] or 0) for key in keys]
