#!/usr/bin/env python3
"""Prints small yes/no and multiple-choice questions as drr JSONL: questions.py COUNT [FIRST]. The answers are balanced, so
that even a model that always says the same is right on some and wrong on others, and a critic has both to learn from."""
import json
import sys

FACTS = [("a whale is a mammal", "yes"), ("the sun is cold", "no"), ("ice floats on water", "yes"),
         ("a spider has six legs", "no"), ("Paris is in France", "yes"), ("gold is lighter than air", "no"),
         ("a triangle has three sides", "yes"), ("the moon is made of cheese", "no"), ("bees make honey", "yes"),
         ("fish breathe with lungs", "no"), ("ten is more than seven", "yes"), ("a week has nine days", "no")]
CHOICES = [("What do bees make?", ["honey", "milk", "paper", "glass"], "A"),
           ("Where do fish live?", ["in trees", "in water", "in clouds", "in sand"], "B"),
           ("What is frozen water called?", ["steam", "smoke", "ice", "oil"], "C"),
           ("Which of these can fly?", ["a stone", "a table", "a fish", "a bird"], "D")]


def question(number):
    if number % 4 == 3:
        text, choices, answer = CHOICES[number // 4 % len(CHOICES)]
        return {"id": f"q{number:03}", "question": f"{text} (No. {number})", "choices": choices, "answer": answer,
                "kind": "choice"}
    fact, answer = FACTS[number % len(FACTS)]
    return {"id": f"q{number:03}", "question": f"Is it true that {fact}? (No. {number})", "answer": answer,
            "kind": "boolean"}


first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
for number in range(first, first + int(sys.argv[1])):
    print(json.dumps(question(number)))
