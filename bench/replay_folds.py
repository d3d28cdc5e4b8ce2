"""Recorded answers in grouped folds, and a critic for each fold that never saw its questions: what bench/replay-study and
bench/cascade stand on. All that is done is kept in DRR_CACHE/runs/replay-study and not done again; a training that was cut
off goes on."""
import collections
import gzip
import hashlib
import json
import os
import random
import shlex
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tools"))
sys.dont_write_bytecode = True
from fetch import Trouble, cache_root, say  # noqa: E402

REASONERS = ("gpt-3.5-turbo", "gpt-4o-mini")
FOLDS, DEV, SEED = 5, 0.2, 1
SETS = ("svamp", "csqa", "gsm8k")


def add_options(parser):
    parser.add_argument("--questions", type=int, default=0, help="of each set; 0: all (0)")
    parser.add_argument("--train-traces", type=int, default=0, help="of each fold; 0: all (0)")
    parser.add_argument("--epochs", type=int, default=1, help="of each training (1)")
    parser.add_argument("--max-length", type=int, default=256, help="tokens of question and answer (256)")
    parser.add_argument("--precision", default="int8", help="of scoring: auto, fp32, bf16, int8 (int8)")
    parser.add_argument("--through", default="", help="before each drr command, as in \"taskset -c 1 nice\"")
    parser.add_argument("--threads", type=int, default=1, help="of a training and of scoring (1)")
    parser.add_argument("--piece", type=int, default=0, help="a training is stopped after so many seconds and called again")


class Study:
    def __init__(self, arguments):
        self.arguments = arguments
        self.shared = os.environ.get("DRR_SHARED") or os.path.join(os.path.dirname(ROOT), "shared")
        self.drr = os.environ.get("DRR_DRR") or os.path.join(ROOT, "build", "release", "drr")
        self.program = os.environ.get("DRR_REPLAY_STUDY") or os.path.join(ROOT, "build", "release", "tests", "replay_study")
        for path in (self.drr, self.program):
            if not os.path.exists(path):
                raise Trouble(f"{path} is missing: tools/setup build makes it")
        self.through = shlex.split(arguments.through)
        settings = (arguments.questions, arguments.train_traces, arguments.epochs, arguments.max_length, arguments.precision)
        self.folder = os.path.join(cache_root(), "runs", "replay-study", "-".join(str(x) for x in settings))

    def call(self, command, makes=None):
        """stdout. A command that makes a file may be cut in pieces: stopped after a while it goes on by itself."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.arguments.threads)}
        while True:
            piece = ["timeout", "-s", "INT", str(self.arguments.piece)] if makes and self.arguments.piece else []
            done = subprocess.run(self.through + piece + command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  env=environment)
            if done.returncode == 0 or (makes and os.path.exists(makes)):
                return done.stdout
            if not (piece and done.returncode == 124):
                raise Trouble(f"{' '.join(command[:3])} ended with {done.returncode}: {done.stderr.strip()[-600:]}")

    def all_rows(self, name):
        path = os.path.join(self.shared, "traces", f"{name}.replay.jsonl.gz")
        if not os.path.exists(path):
            raise Trouble(f"{path} is missing: DRR_SHARED says where the shared folder is")
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        for row in rows:  # sources differ in their spaces, and a question is its text
            row["question"] = " ".join(row["question"].split())
        return rows

    def rows(self, name):
        rows = [row for row in self.all_rows(name) if row["reasoner"] in REASONERS and row["text"].strip()]
        for row in rows:  # as the replayed reasoner estimates them: 4 bytes each
            row["n_tokens"] = (len(row["text"].encode()) + 3) // 4
        return rows

    def folds(self, name):
        """Rows by fold; the same question is in one fold under whatever id."""
        rows = self.rows(name)
        questions = sorted({row["question"] for row in rows}, key=lambda q: hashlib.sha256(f"{SEED} {q}".encode()).digest())
        questions = questions[:self.arguments.questions] if self.arguments.questions else questions
        fold = {question: i * FOLDS // len(questions) for i, question in enumerate(questions)}
        parts = [[] for _ in range(FOLDS)]
        for row in rows:
            if row["question"] in fold:
                parts[fold[row["question"]]].append(row)
        return parts

    def fold_folder(self, name, fold):
        return os.path.join(self.folder, name, str(fold))

    def divide(self, name, fold):
        """Rows to train on, of dev questions, and left out."""
        parts = self.folds(name)
        others = [row for i, part in enumerate(parts) for row in part if i != fold]
        questions = sorted({row["question"] for row in others})
        dev = set(random.Random(f"{SEED} dev {name} {fold}").sample(questions, round(DEV * len(questions))))
        return ([row for row in others if row["question"] not in dev], [row for row in others if row["question"] in dev], parts[fold])

    def textless(self, name, fold):
        """Files of dev and left-out answers as if a critic that knows nothing had scored them."""
        folder = os.path.join(self.folder, name, "no-text", str(fold))
        os.makedirs(folder, exist_ok=True)
        return [write_rows(os.path.join(folder, f"{part}.jsonl"), [{**row, "logit": 0} for row in rows])
                for part, rows in zip(("dev", "test"), self.divide(name, fold)[1:])]

    def reasoned(self, path):
        """The same file without answers to a prompt that asks for no reasoning."""
        with open(path, encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        return write_rows(path.replace(".jsonl", ".reasoned.jsonl"), [row for row in rows if row["prompt"] != "standard"])

    def second(self, name, reasoner):
        """Another reasoner's answer to the prompt COT, of each question."""
        return write_rows(os.path.join(self.folder, name, "second.jsonl"),
                          [{"question": row["question"], "correct": int(row["correct"]), "n_tokens": (len(row["text"].encode()) + 3) // 4}
                           for row in self.all_rows(name) if row["reasoner"] == reasoner and row["prompt"] == "COT"])

    def prepare(self, name, fold):
        """The fold's files: answers to train on, all answers to dev questions, and those to the left-out ones."""
        folder = self.fold_folder(name, fold)
        os.makedirs(folder, exist_ok=True)
        paths = [os.path.join(folder, part) for part in ("dev.jsonl", "test.jsonl", "train.jsonl")]
        if os.path.exists(paths[-1]):
            return folder
        train, dev, test = self.divide(name, fold)
        write_rows(paths[0], dev)
        write_rows(paths[1], test)
        write_rows(paths[2], self.draw(train, f"{SEED} {name} {fold}"))
        return folder

    def draw(self, rows, seed):
        """At least one answer to every question, then as many of the others as there is room for: those that differ in
        label from one that was taken come first."""
        rng = random.Random(seed)
        groups = collections.defaultdict(lambda: ([], []))
        rng.shuffle(rows)
        for row in rows:
            groups[row["question"]][bool(row["correct"])].append(row)
        rounds = collections.defaultdict(list)
        for one in groups.values():
            classes, turn = [part for part in rng.sample(one, 2) if part], 0
            while any(classes):
                for part in classes:
                    if part:
                        rounds[turn].append(part.pop())
                        turn += 1
        order = [row for turn in sorted(rounds) for row in rng.sample(rounds[turn], len(rounds[turn]))]
        return order[:self.arguments.train_traces] if self.arguments.train_traces else order

    def train(self, name, fold):
        folder = self.prepare(name, fold)
        critic = os.path.join(folder, "critic.gguf")
        if not os.path.exists(critic):
            say(f"{name}, fold {fold}: training")
            told = self.call([self.drr, "train", "--traces", os.path.join(folder, "train.jsonl"), "--encoder", "all-minilm-l6-v2",
                              "--out", critic, "--seed", str(SEED), "--dev-share", "0.06", "--test-share", "0", "--threads", str(self.arguments.threads),
                              "--epochs", str(self.arguments.epochs), "--batch", "16", "--learning-rate", "5e-5",
                              "--max-length", str(self.arguments.max_length), "--keep-last", "--quiet", "--json", "--resume"], makes=critic)
            with open(os.path.join(folder, "train.json"), "w", encoding="utf-8") as file:
                file.write(told)
        for part in ("dev", "test"):
            out = os.path.join(folder, f"{part}.scored.jsonl")
            if not os.path.exists(out):
                say(f"{name}, fold {fold}: scoring {part}")
                self.call([self.drr, "critic", "score", "--critic", critic, "--in", os.path.join(folder, f"{part}.jsonl"), "--out",
                           out, "--precision", self.arguments.precision, "--quiet"])
        return folder

    def train_question(self, name, fold, reasoner):
        """P(correct) of dev and left-out questions from the question alone."""
        folder = self.fold_folder(name, fold)
        out, critic = (os.path.join(folder, f"question.{reasoner}.{end}") for end in ("scored.jsonl", "gguf"))
        if os.path.exists(out):
            return
        trained, dev, test = ([row for row in self.rows(name) if row["reasoner"] == reasoner and row["question"] in asked]
                              for asked in (questions_of(os.path.join(folder, f"{part}.jsonl")) for part in ("train", "dev", "test")))
        traces = write_rows(os.path.join(folder, "question.train.jsonl"), trained)
        asked = write_rows(os.path.join(folder, "question.asked.jsonl"),
                           [{"question": question, "text": "?"} for question in sorted({row["question"] for row in dev + test})])
        say(f"{name}, fold {fold}: a critic of {reasoner}'s questions")
        self.call([self.drr, "train", "--question-only", "--traces", traces, "--encoder", "all-minilm-l6-v2", "--out", critic, "--seed",
                   str(SEED), "--dev-share", "0.2", "--test-share", "0", "--threads", str(self.arguments.threads), "--epochs", "1", "--learning-rate", "1e-4",
                   "--max-length", "96", "--keep-last", "--quiet", "--resume"], makes=critic)
        self.call([self.drr, "critic", "score", "--critic", critic, "--in", asked, "--out", out, "--precision",
                   self.arguments.precision, "--quiet"])


def questions_of(path):
    with open(path, encoding="utf-8") as lines:
        return {json.loads(line)["question"] for line in lines}


def write_rows(path, rows):
    with open(path + ".part", "w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row) + "\n")
    os.replace(path + ".part", path)
    return path
