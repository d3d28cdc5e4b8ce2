#!/usr/bin/env python3
"""The figures of a report, computed a second time from its questions.jsonl alone, each by another way than drr's: AURC by adding
up risks, AUGRC from AUROC, McNemar's test by counting in whole numbers, Holm's correction, the clustered standard error, and the
intervals by drawing questions with another generator. Recorded answers to questions of which some are there twice, no model.

    test_figures.py [FOLDER]     a folder of `drr eval` in place of what is made here"""
import collections
import json
import math
import os
import random
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from checks import check, failures, lacking, run_drr, write_questions  # noqa: E402

QUESTIONS, TWICE, DRAWS = 60, 20, 1000


def near(a, b, tolerance=1e-6):
    return (a is None) == (b is None) and (a is None or abs(a - b) <= tolerance)


def clusters_of(rows):
    groups = collections.defaultdict(list)
    for row in rows:
        groups[row["text"]].append(row)
    return list(groups.values())


def is_right(row):
    return int(row["correct"] is True)


# ---- of one strategy

def by_threshold(scored):
    """At each P(correct), the highest first: how many are answered, and how many of them are wrong."""
    return [(sum(p >= t for p, _ in scored), sum(p >= t and not y for p, y in scored)) for t in sorted({p for p, _ in scored}, reverse=True)]


def aurc(scored):
    """Adds up the risk over steps of a thousandth of an answer; within answers of one P(correct), in the mean of their orders."""
    total, done, wrong = 0.0, 0, 0
    for n, n_wrong in by_threshold(scored):
        share, steps = (n_wrong - wrong) / (n - done), 1000 * (n - done)
        for k in range(steps):
            x = (k + 0.5) / 1000
            total += (wrong + share * x) / (done + x) / 1000
        done, wrong = n, n_wrong
    return total / len(scored)


def auroc(scored):
    right, wrong = [p for p, y in scored if y], [p for p, y in scored if not y]
    if not right or not wrong:
        return None
    return sum((a > b) + (a == b) / 2 for a in right for b in wrong) / (len(right) * len(wrong))


def augrc(scored):
    """Traub et al. 2024, equation 7: by AUROC and accuracy alone."""
    accuracy = sum(y for _, y in scored) / len(scored)
    return (1 - (auroc(scored) or 0)) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2


def coverage_at(scored, n, accuracy):
    return max([0] + [answered / n for answered, wrong in by_threshold(scored) if wrong <= (1 - accuracy) * answered + 1e-9])


def clustered_error(rows):
    groups, mean = clusters_of(rows), sum(map(is_right, rows)) / len(rows)
    middle = sum(sum(is_right(row) - mean for row in group) ** 2 for group in groups)
    return math.sqrt(middle * len(groups) / (len(groups) - 1)) / len(rows) if len(groups) > 1 else None


def check_strategy(name, told, rows):
    n = len(rows)
    answered = [row for row in rows if row["outcome"] == "answered"]
    scored = [(row["p_correct"], is_right(row)) for row in answered if row["p_correct"] is not None]
    right, first = sum(map(is_right, rows)), sum(row["first_correct"] for row in rows)
    expected = {
        "n": n, "accuracy": right / n, "coverage": len(answered) / n, "accuracy_answered": right / len(answered) if answered else None,
        "mean_calls": sum(row["calls"] for row in rows) / n, "mean_turns": sum(row["turns"] for row in rows) / n,
        "mean_tokens": sum(row["tokens"] for row in rows) / n, "accuracy_se": clustered_error(rows), "first_accuracy": first / n,
        "wrong_to_right": sum(is_right(row) and not row["first_correct"] for row in rows),
        "right_to_wrong": sum(not is_right(row) and row["first_correct"] for row in rows),
        "augrc": augrc(scored) if scored else None,
        **{outcome: sum(row["outcome"] == outcome for row in rows) for outcome in ("answered", "abstained", "unparsed", "failed")}}
    wrong = {key: (told[key], value) for key, value in expected.items() if not near(told[key], value)}
    if not near(told["aurc"], aurc(scored) if scored else None, 1e-4):
        wrong["aurc"] = told["aurc"], aurc(scored)
    for level, value in told["coverage_at"].items():
        if not near(value, coverage_at(scored, n, int(level) / 100) if scored else None):
            wrong["coverage_at " + level] = value, coverage_at(scored, n, int(level) / 100)
    oracle, recovered = told["oracle_accuracy"], told["headroom_recovered"]
    if oracle < max(first, right) / n - 1e-9 or not near(recovered, (right - first) / n / (oracle - first / n) if oracle > first / n + 1e-9 else None):
        wrong["headroom"] = oracle, recovered
    check(f"{name}: its figures are those of its questions", not wrong, wrong)


# ---- of two

def drawn(values, groups, seed):
    """95 % of the means over as many groups, drawn with replacement."""
    draw, means = random.Random(seed), []
    sums = [(sum(values[k] for k in group), len(group)) for group in groups]
    for _ in range(DRAWS):
        some = draw.choices(sums, k=len(sums))
        means.append(sum(s for s, _ in some) / sum(n for _, n in some))
    means.sort()
    return means[round(0.025 * DRAWS)], means[round(0.975 * DRAWS) - 1]


def same_interval(told, values, texts, seed):
    """Both are draws, so their ends may differ by a part of the width, and by a step where there are few values."""
    groups = collections.defaultdict(list)
    for k, text in enumerate(texts):
        groups[text].append(k)
    low, high = drawn(values, list(groups.values()), seed)
    slack = 0.15 * (high - low) + 1e-9
    return abs(told[0] - low) <= slack and abs(told[1] - high) <= slack, (told, low, high)


def mcnemar(differences, texts):
    """Counts, in whole numbers, in how many of all ways to turn the questions over the sum is as large as it was, or larger."""
    sums = collections.defaultdict(int)
    for difference, text in zip(differences, texts):
        sums[text] += difference
    ways = collections.Counter({0: 1})
    for value in sums.values():
        turned = collections.Counter()
        for total, n in ways.items():
            turned[total + value] += n
            turned[total - value] += n
        ways = turned
    seen = abs(sum(sums.values()))
    return sum(n for total, n in ways.items() if abs(total) >= seen) / sum(ways.values())


def check_pair(told, a, b):
    texts = [row["text"] for row in a]
    points = [is_right(x) - is_right(y) for x, y in zip(a, b)]
    tokens = [x["tokens"] - y["tokens"] for x, y in zip(a, b)]
    expected = {"difference": sum(points) / len(points), "only_a_right": points.count(1), "only_b_right": points.count(-1),
                "mcnemar_p": mcnemar(points, texts), "tokens_difference": sum(tokens) / len(tokens)}
    wrong = {key: (told[key], value) for key, value in expected.items() if not near(told[key], value, 1e-9 + 1e-6 * abs(value))}
    for key, values in (("difference_ci", points), ("tokens_difference_ci", tokens)):
        good, seen = same_interval(told[key], values, texts, key)
        if not good:
            wrong[key] = seen
    check(f"{told['a']} against {told['b']}: difference, test and intervals", not wrong, wrong)


def check_holm(pairs):
    least, wrong = 0, []
    for k, pair in enumerate(sorted(pairs, key=lambda pair: pair["mcnemar_p"])):
        least = max(least, min(1, (len(pairs) - k) * pair["mcnemar_p"]))
        if not near(pair["p_holm"], least) or pair["within_noise"] != (pair["p_holm"] >= 0.05):
            wrong.append((pair["p_holm"], least))
    check("Holm's correction is over all of them", not wrong, wrong)


# ---- of the judge

def average_precision(scored):
    right, total, last = sum(y for _, y in scored), 0.0, 0
    for answered, wrong in by_threshold(scored):
        total += (answered - wrong - last) / right * (answered - wrong) / answered
        last = answered - wrong
    return total


def calibration_error(scored):
    bins = collections.defaultdict(list)
    for p, y in scored:
        bins[min(int(15 * p), 14)].append(y - p)
    return sum(abs(sum(gaps)) for gaps in bins.values()) / len(scored)


def check_judge(name, told, rows):
    """Of a set of rows that questions.jsonl has whole: first answers are cot's, answers given are drr's."""
    scored = [(row["p_correct"], is_right(row)) for row in rows
              if row["outcome"] == "answered" and row["correct"] is not None and row["p_correct"] is not None]
    expected = {"n": len(scored), "n_right": sum(y for _, y in scored), "auroc": auroc(scored), "auprc": average_precision(scored),
                "brier": sum((p - y) ** 2 for p, y in scored) / len(scored), "ece": calibration_error(scored)}
    wrong = {key: (told[key], value) for key, value in expected.items() if not near(told[key], value)}
    check(f"{name}: AUROC, AUPRC, Brier and ECE", not wrong, wrong)


def check_budget(equal, strategies, rows):
    of = "calls" if equal["of"] == "calls" else "tokens"
    wrong = []
    for name, told in strategies.items():
        spent = [row[of] for row in rows[name]]
        mean, slack = sum(spent) / len(spent), 0.005 * equal["mean"]
        if name != "cot":  # which cannot be given a part of a question
            slack = max(slack, max(spent) / len(spent))
        if name == equal["reference"]:
            wrong += [] if near(mean, equal["mean"]) else [(name, mean)]
        elif told["budget"]["reached"] != (abs(mean - equal["mean"]) <= slack):
            wrong.append((name, mean, told["budget"]))
    check(f"every strategy has the {of} of {equal['reference']}, or says that it has not", not wrong, equal["mean"], wrong)


def check_report(folder):
    with open(os.path.join(folder, "report.json")) as file:
        report = json.load(file)
    with open(os.path.join(folder, "questions.jsonl")) as file:
        lines = [json.loads(line) for line in file]
    for task, told in report["tasks"].items():
        rows = {name: [line for line in lines if (line["task"], line["strategy"]) == (task, name)] for name in told["strategies"]}
        for name, figures in told["strategies"].items():
            check_strategy(f"{task}, {name}", figures, rows[name])
            right = [is_right(row) for row in rows[name]]
            good, seen = same_interval(figures["accuracy_ci"], right, [row["text"] for row in rows[name]], name)
            check(f"{task}, {name}: the interval is of questions", good, seen)
        for pair in told["comparisons"]:
            check_pair(pair, rows[pair["a"]], rows[pair["b"]])
        sets = told.get("critic", {}).get("sets", {})
        if sets.get("first") and "cot" in rows:
            check_judge(f"{task}, first answers", sets["first"], rows["cot"])
        if sets.get("given") and "drr" in rows and not told["strategies"]["drr"].get("escalated"):
            check_judge(f"{task}, answers given", sets["given"], rows["drr"])
        if "equal_budget" in told:
            check_budget(told["equal_budget"], told["strategies"], rows)
    check_holm([pair for told in report["tasks"].values() for pair in told["comparisons"]])


def main():
    if len(sys.argv) > 1:
        check_report(sys.argv[1])
        return failures() != 0
    why = lacking()
    if why:
        print(why)
        return 77
    work = tempfile.mkdtemp(prefix="drr-e2e.")
    try:
        write_questions(os.path.join(work, "once.jsonl"), str(QUESTIONS))
        write_questions(os.path.join(work, "said.replay.jsonl"), str(QUESTIONS), "--traces", "recorder")
        with open(os.path.join(work, "once.jsonl")) as file:
            asked = [json.loads(line) for line in file]
        with open(os.path.join(work, "asked.jsonl"), "w") as file:
            for row in asked + [dict(row, id=row["id"] + "-again") for row in asked[:TWICE]]:
                file.write(json.dumps(row) + "\n")
        for name, more in (("own", []), ("equal", ["--equal-budget", "tokens:vote"])):
            done = run_drr("eval", "--data", "asked.jsonl", "--data", "once.jsonl", "--reasoner", "said.replay.jsonl", "--judge", "length",
                           "--threshold", "0.86", "--samples", "2", "--max-turns", "2", "--bootstrap", "4000", "--abstain-below", "0.84",
                           "--strategies", "cot,vote,best-of-n,drr", "--out", name, *more, folder=work)
            check(f"an evaluation, budgets {name}", done.returncode == 0, done.last)
            if done.returncode == 0:
                check_report(os.path.join(work, name))
    finally:
        shutil.rmtree(work)
    return failures() != 0


if __name__ == "__main__":
    sys.exit(main())
