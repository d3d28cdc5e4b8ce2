#!/usr/bin/env python3
"""Prints small yes/no and multiple-choice questions as drr JSONL: questions.py COUNT [FIRST]. The answers are balanced, so
that even a model that always says the same is right on some and wrong on others, and a critic has both to learn from.

With --traces NAME, prints instead what a reasoner of that name is made to have answered, two samples a question, three of
five right: traces to train on, and a replay reasoner to answer the same questions, with no model and no other file."""
import argparse
import json

FACTS = [("a whale is a mammal", "yes"), ("the sun is cold", "no"), ("ice floats on water", "yes"),
         ("a spider has six legs", "no"), ("Paris is in France", "yes"), ("gold is lighter than air", "no"),
         ("a triangle has three sides", "yes"), ("the moon is made of cheese", "no"), ("bees make honey", "yes"),
         ("fish breathe with lungs", "no"), ("ten is more than seven", "yes"), ("a week has nine days", "no")]
CHOICES = [("What do bees make?", ["honey", "milk", "paper", "glass"], "A"),
           ("Where do fish live?", ["in trees", "in water", "in clouds", "in sand"], "B"),
           ("What is frozen water called?", ["steam", "smoke", "ice", "oil"], "C"),
           ("Which of these can fly?", ["a stone", "a table", "a fish", "a bird"], "D")]
SAMPLES = 2


def question(number):
    if number % 4 == 3:
        text, choices, answer = CHOICES[number // 4 % len(CHOICES)]
        return {"id": f"q{number:03}", "question": f"{text} (No. {number})", "choices": choices, "answer": answer,
                "kind": "choice"}
    fact, answer = FACTS[number % len(FACTS)]
    return {"id": f"q{number:03}", "question": f"Is it true that {fact}? (No. {number})", "answer": answer,
            "kind": "boolean"}


def trace(number, sample, reasoner):
    asked = question(number)
    right = (7 * number + 3 * sample) % 5 < 3
    choices = asked.get("choices", [])
    others = {"yes": "no", "no": "yes", "A": "B", "B": "C", "C": "D", "D": "A"}
    answer = asked["answer"] if right else others[asked["answer"]]
    why = "I know this well" if right else "I am not sure but would guess"
    return {"task": "questions", "id": asked["id"], "kind": asked["kind"], "gold": asked["answer"],
            "question": asked["question"] + "".join(f" ({letter}) {text}" for letter, text in zip("ABCD", choices)),
            "reasoner": reasoner, "prompt": "recorded", "sample": sample, "answer": answer, "correct": right,
            "text": f"{why}, thinking of number {number}.\nAnswer: {answer}"}


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("count", type=int)
parser.add_argument("first", type=int, nargs="?", default=0)
parser.add_argument("--traces", metavar="NAME")
arguments = parser.parse_args()
for number in range(arguments.first, arguments.first + arguments.count):
    if not arguments.traces:
        print(json.dumps(question(number)))
    for sample in range(SAMPLES if arguments.traces else 0):
        print(json.dumps(trace(number, sample, arguments.traces)))
