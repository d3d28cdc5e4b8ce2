#!/usr/bin/env python3
"""Logits and gradients of an exported critic with a head of tokens, for test_parity_token.c: python score_tokens.py FOLDER

FOLDER is what `drr critic export` writes, with batch.json beside it: {"pairs": [{"question", "text", "label", "joined",
"reads": [{"at", "target", "weight"}]}], "rank_weight"}. Writes told.json, {"pairs": [{"ids", "logits"}], "loss"}, logits being
those of every token; and FOLDER/gradient, the same kind of folder, whose weights are the gradient of that loss: over N pairs

    sum of weight * cross-entropy(logit, target) / N  +  rank_weight / N * sum over groups of
        size * mean over its pairs of a right and a wrong one of log(1 + exp(wrong's last logit - right's))

A group is a pair and those after it that are joined to it."""
import json
import os
import shutil
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # a test asks no network for anything

import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers import AutoModelForTokenClassification, AutoTokenizer  # noqa: E402


def ranking(groups):
    terms = []
    for group in groups:
        pairs = [torch.nn.functional.softplus(wrong - right) for right, good in group if good
                 for wrong, bad in group if not bad]
        if pairs:
            terms.append(len(group) * torch.stack(pairs).mean())
    return torch.stack(terms).sum()


def main():
    folder = sys.argv[1]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    assert model.config.num_labels == 1 and model.config.id2label == {0: "accept"}, model.config
    with open(f"{folder}/batch.json") as file:
        batch = json.load(file)
    told, groups, reads, targets, weights = [], [], [], [], []
    for pair in batch["pairs"]:
        inputs = tokenizer(pair["question"], pair["text"], return_tensors="pt")
        logits = model(**inputs).logits[0, :, 0]
        told.append({"ids": inputs["input_ids"][0].tolist(), "logits": logits.tolist()})
        for read in pair["reads"]:
            reads.append(logits[read["at"]])
            targets.append(read["target"])
            weights.append(read["weight"])
        if not pair["joined"]:
            groups.append([])
        groups[-1].append((logits[-1], pair["label"]))
    n = len(batch["pairs"])
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.stack(reads), torch.tensor(targets), weight=torch.tensor(weights), reduction="sum") / n
    loss = loss + batch["rank_weight"] / n * ranking(groups)
    loss.backward()
    os.makedirs(f"{folder}/gradient")
    for name in ("config.json", "vocab.txt", "tokenizer_config.json"):
        shutil.copyfile(f"{folder}/{name}", f"{folder}/gradient/{name}")
    save_file({name: p.grad.contiguous() for name, p in model.named_parameters()}, f"{folder}/gradient/model.safetensors")
    with open(f"{folder}/told.json", "w") as file:
        json.dump({"pairs": told, "loss": loss.item()}, file)


if __name__ == "__main__":
    main()
