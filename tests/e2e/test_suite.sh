#!/usr/bin/env bash
# A whole study from one file, and two studies compared, through the installed command and a replay reasoner: no model.
. "$(dirname "$0")/lib.sh"
need
cd "$work" || exit 1
questions="$source_root/tests/e2e/questions.py"
"$questions" 40 >facts.jsonl
"$questions" 20 40 >more.jsonl
mkdir recorded
"$questions" 60 --traces alpha >recorded/alpha.replay.jsonl
"$questions" 60 --traces beta | sed 's/I know this well/Certainly/' >recorded/beta.replay.jsonl

study() { # SAMPLES THRESHOLD
    cat <<TOML
title = "cot, vote & <drr>"
seeds = [0, 1]
bootstrap = 300
equal_budget = "calls:vote"

[policy]
samples = $1
max_turns = 2

[[data]]
path = "facts.jsonl"
[[data]]
path = "more.jsonl"
limit = 10

[[reasoner]]
source = "recorded/alpha.replay.jsonl"
[[reasoner]]
source = "recorded/beta.replay.jsonl"

[[judge]]
name = "short"
source = "length"

[[strategy]]
strategy = "cot"
[[strategy]]
strategy = "vote"
[[strategy]]
name = "drr strict"
strategy = "drr"
threshold = $2
TOML
}
study 2 0.9 >study.toml

# --- one folder with everything
expect "a suite is run" 0 "$drr" eval --suite study.toml --out one
test_that "and prints the table and the findings" grep -q "drr strict" "$work/out"
test_that "a part a reasoner, judge and seed" json one/report.json \
    "sorted(j['parts']) == ['%s.short.s%d' % (r, s) for r in ('alpha', 'beta') for s in (0, 1)]"
test_that "each holds what drr eval --json prints" json one/report.json \
    "all(set(p['tasks']) == {'facts', 'more'} and set(p['tasks']['facts']['strategies']) == {'cot', 'vote', 'drr strict'} for p in j['parts'].values())"
test_that "a data set's limit is its own" json one/report.json \
    "{(t, s['n']) for p in j['parts'].values() for t, x in p['tasks'].items() for s in x['strategies'].values()} == {('facts', 40), ('more', 10)}"
test_that "figures agree with the questions' outcomes" python3 - <<'PY'
import collections, csv, json
rows = [json.loads(line) for line in open("one/questions.jsonl")]
by = collections.defaultdict(list)
for row in rows:
    by[row["part"], row["task"], row["strategy"]].append(row)
parts = json.load(open("one/report.json"))["parts"]
for (part, task, name), group in by.items():
    figures = parts[part]["tasks"][task]["strategies"][name]
    n = len(group)
    assert figures["n"] == n
    assert abs(figures["accuracy"] - sum(r["correct"] is True for r in group) / n) < 1e-9
    assert abs(figures["mean_calls"] - sum(r["calls"] for r in group) / n) < 1e-9
    assert abs(figures["first_accuracy"] - sum(r["first_correct"] for r in group) / n) < 1e-9
    assert figures["wrong_to_right"] == sum(r["correct"] is True and not r["first_correct"] for r in group)
    assert figures["right_to_wrong"] == sum(r["correct"] is not True and r["first_correct"] for r in group)
table = {(r["part"], r["task"], r["name"]): r for r in csv.DictReader(open("one/strategies.csv", newline=""))}
assert set(table) == set(by)
for key, row in table.items():
    assert abs(float(row["accuracy"]) - parts[key[0]]["tasks"][key[1]]["strategies"][key[2]]["accuracy"]) < 1e-9
    assert float(row["accuracy_ci_low"]) <= float(row["accuracy"]) <= float(row["accuracy_ci_high"])
PY
test_that "p-values are corrected over the whole study" python3 - <<'PY'
import json
j = json.load(open("one/report.json"))
all_ = [c for p in j["parts"].values() for t in p["tasks"].values() for c in t["comparisons"]]
assert len(all_) == j["n_comparisons"] == 24, len(all_)
least = 0
for k, c in enumerate(sorted(all_, key=lambda c: c["mcnemar_p"])):
    least = max(least, min(1, (len(all_) - k) * c["mcnemar_p"]))
    assert abs(c["p_holm"] - least) < 1e-9, c
    assert c["within_noise"] == (least >= 0.05), c
    assert "within noise" in c["finding"] or not c["within_noise"] or "same questions" in c["finding"], c
PY
test_that "every strategy has the budget of vote, or says that it cannot" python3 - <<'PY'
import json
for p in json.load(open("one/report.json"))["parts"].values():
    for t in p["tasks"].values():
        s = t["strategies"]
        assert t["equal_budget"] == {"of": "calls", "reference": "vote", "mean": s["vote"]["mean_calls"]}, t["equal_budget"]
        assert s["cot"]["budget"]["reached"] is False and s["cot"]["mean_calls"] == 1
        d = s["drr strict"]
        assert d["budget"]["reached"] == (abs(d["mean_calls"] - 2) < 0.11), d
PY
test_that "each plot is an SVG that stands alone" python3 - <<'PY'
import glob, xml.etree.ElementTree as tree
files = glob.glob("one/plots/*.svg")
assert len(files) >= 4 * 2 * 3, files
for name in files:
    root = tree.parse(name).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg", name
    assert root.find("{http://www.w3.org/2000/svg}style") is not None, name
PY
test_that "the page escapes, and fetches nothing" bash -c '
    grep -q "cot, vote &#38; &#60;drr&#62;" one/report.html && ! grep -qiE "<script|(src|href)=" one/report.html'
test_that "Markdown has a row a strategy" bash -c '[ "$(grep -c "^| alpha.short.s0 " one/report.md)" -eq 6 ]'

# --- resumed, re-scored, refused
expect "run again" 0 "$drr" eval --suite study.toml --out one
test_that "it does nothing twice" bash -c '[ "$(grep -c "finished before" "$1")" -eq 4 ]' - "$work/err"
rm one/parts/beta.short.s1/part.json
expect "a part that was not finished" 0 "$drr" eval --suite study.toml --out one
test_that "is the only one that is done again" bash -c '[ "$(grep -c "finished before" "$1")" -eq 3 ]' - "$work/err"
test_that "from the text that is there" grep -qE "(^|[^0-9])0 completions generated" "$work/err"
study 2 0.2 >other.toml
cp -r one two
expect "another policy on the same texts" 0 "$drr" eval --suite other.toml --out two
test_that "is scored again" bash -c '! grep -q "finished before" "$1"' - "$work/err"
test_that "without a new text" bash -c '[ "$(grep -cE "(^|[^0-9])0 completions generated" "$1")" -eq 4 ]' - "$work/err"
cp -r one torn
rm torn/parts/alpha.short.s0/body.html
mkdir torn/parts/alpha.short.s0/body.html
expect "a part whose files cannot all be written" 1 "$drr" eval --suite other.toml --out torn
rmdir torn/parts/alpha.short.s0/body.html
cp one/parts/alpha.short.s0/body.html torn/parts/alpha.short.s0/
expect "does not pass for the one that was there before" 0 "$drr" eval --suite study.toml --out torn
test_that "but is done again" bash -c '! grep -q "alpha.short.s0.*finished before" "$1"' - "$work/err"
test_that "by its own settings" python3 - <<'PY'
import json
a, b, other = (json.load(open(study + "/report.json"))["parts"]["alpha.short.s0"]["tasks"]["facts"]["strategies"]["drr strict"]
               for study in ("one", "torn", "two"))
of = lambda s: (s["policy"]["threshold"], s["mean_calls"], s["accuracy"])
assert of(a) == of(b) != of(other), (of(a), of(b), of(other))
PY
python3 - <<'PY'
import sqlite3
db = sqlite3.connect("two/samples.db")
db.execute("update blobs set value = cast('999 of drr 9.9' as blob) where key = 'format'")
assert db.total_changes == 1
db.commit()
PY
rm -r two/parts
expect "a cache of another version is refused" 1 "$drr" eval --suite other.toml --out two
test_that "in a sentence that says what to do" grep -q "two/samples.db .*drr 9.9.*--out" "$work/err"
sed 's/samples = 2/sampels = 2/' study.toml >wrong.toml
expect "an unknown key is refused" 1 "$drr" eval --suite wrong.toml --out three
test_that "with file and line" grep -q 'wrong.toml:7: there is no key "sampels" here' "$work/err"
test_that "and nothing is written" test ! -e three
sed 's/facts.jsonl/missing.jsonl/' study.toml >wrong.toml
expect "a missing data set is refused" 1 "$drr" eval --suite wrong.toml --out three
test_that "with file and line" grep -q "wrong.toml:10: .*missing.jsonl" "$work/err"
sed 's/^threshold = .*//' study.toml >wrong.toml
expect "a judge without a threshold is refused" 1 "$drr" eval --suite wrong.toml --out three
test_that "with file and line" grep -q "wrong.toml:21: the judge short has no threshold" "$work/err"

{ sed '/^\[\[judge/,$d' study.toml | sed 's/^source = "recorded.alpha.*/&\nname = "a"/; s/^source = "recorded.beta.*/&\nname = "a.x"/'
    printf '[[judge]]\nname = "x.l"\nsource = "length"\n[[judge]]\nname = "l"\nsource = "length"\n'
    sed -n '/^\[\[strategy/,$p' study.toml; } >wrong.toml
expect "two parts of one name are refused" 1 "$drr" eval --suite wrong.toml --out three
test_that "with both their makings" grep -q "reasoner a.x with critic l and reasoner a with critic x.l are both called a.x.l" "$work/err"

# --- two studies
rm -rf two
expect "a second study" 0 "$drr" eval --suite other.toml --out two
expect "two studies are compared" 0 "$drr" eval diff one two --out diff --bootstrap 300
test_that "with a table" grep -q "| alpha.short.s0 | facts | drr strict | 40 |" "$work/out"
test_that "that says what differs" grep -q "policy's threshold: 0.9 in A, 0.2 in B" "$work/out"
test_that "and tests what it holds" python3 - <<'PY'
import json
from math import comb
j = json.load(open("diff/diff.json"))
assert len(j["comparisons"]) == 24
outcome = {}
for study in "one", "two":
    for line in open(study + "/questions.jsonl"):
        r = json.loads(line)
        outcome[study, r["part"], r["task"], r["strategy"], r["id"]] = r["correct"] is True
for c in j["comparisons"]:
    ids = [k[4] for k in outcome if k[:4] == ("one", c["part_a"], c["task"], c["strategy"])]
    a, b = ([outcome[s, c["part_a"], c["task"], c["strategy"], i] for i in ids] for s in ("one", "two"))
    only_a, only_b = sum(x and not y for x, y in zip(a, b)), sum(y and not x for x, y in zip(a, b))
    assert (c["only_a_right"], c["only_b_right"]) == (only_a, only_b), c
    n = only_a + only_b
    p = 1 if only_a == only_b else min(1, 2 * sum(comb(n, k) for k in range(min(only_a, only_b) + 1)) / 2 ** n)
    assert abs(c["mcnemar_p"] - p) < 1e-9 and c["p_holm"] >= c["mcnemar_p"] - 1e-12
    assert abs(c["difference"] - (sum(b) - sum(a)) / len(ids)) < 1e-9
assert any(c["only_b_right"] != c["only_a_right"] for c in j["comparisons"] if c["strategy"] == "drr strict")
assert all(c["only_a_right"] == 0 == c["only_b_right"] for c in j["comparisons"] if c["strategy"] != "drr strict")
PY
expect "drr eval of one reasoner" 0 "$drr" eval --data facts.jsonl --reasoner recorded/alpha.replay.jsonl --strategies cot,vote \
    --out single --bootstrap 100
expect "and of another" 0 "$drr" eval --data facts.jsonl --reasoner recorded/beta.replay.jsonl --strategies vote,cot \
    --out other --bootstrap 100 --equal-budget tokens:cot
expect "are compared too" 0 "$drr" eval diff single other --json
test_that "and their reasoners told apart" json "$work/out" \
    "any('reasoner: ' in d for d in j['differences']) and len(j['comparisons']) == 2"
test_that "and the budget that one alone had" json "$work/out" \
    "any(d.startswith('facts: equal_budget: nothing in A, {') for d in j['differences'])"
expect "a report and itself" 0 "$drr" eval diff single single --json
test_that "do not differ" json "$work/out" "j['differences'] == []"
expect "a folder without a report is refused" 1 "$drr" eval diff one recorded
test_that "by name" grep -q "recorded has no report.json" "$work/err"
expect "no budget is named so" 2 "$drr" eval --data facts.jsonl --equal-budget time
finish
