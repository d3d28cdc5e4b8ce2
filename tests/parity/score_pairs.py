#!/usr/bin/env python3
"""Logits of an exported critic by transformers and sentence-transformers, for test_parity_export.c:
python score_pairs.py FOLDER

FOLDER/hf, or where there is none FOLDER, is what `drr critic export` writes; FOLDER/pairs.jsonl has {"question", "text"}.
Writes FOLDER/logits.jsonl: {"ids", "logit", "logit_with_types", "cross_encoder"}: of AutoModelForSequenceClassification,
the same with token type 1 for the second segment, where the model has types, and of CrossEncoder, which scores all pairs in
padded batches (of FOLDER/hf alone)."""
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # a test asks no network for anything

import torch  # noqa: E402
import torch_two  # noqa: E402, F401
from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: E402


def main():
    folder = sys.argv[1]
    model_folder = f"{folder}/hf" if os.path.isdir(f"{folder}/hf") else folder
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForSequenceClassification.from_pretrained(model_folder, attn_implementation="eager").eval()
    n_types = getattr(model.config, "type_vocab_size", 1)
    assert model.config.num_labels == 1 and model.config.id2label == {0: "accept"}, model.config
    with open(f"{folder}/pairs.jsonl") as file:
        pairs = [json.loads(line) for line in file]
    crossed = [None] * len(pairs)
    if model_folder != folder:
        from sentence_transformers import CrossEncoder
        crossed = CrossEncoder(model_folder, device="cpu").predict(
            [(pair["question"], pair["text"]) for pair in pairs], activation_fn=torch.nn.Identity(), show_progress_bar=False)
    with open(f"{folder}/logits.jsonl", "w") as out, torch.no_grad():
        for pair, cross in zip(pairs, crossed, strict=True):
            inputs = tokenizer(pair["question"], pair["text"], return_tensors="pt")
            ids = inputs["input_ids"][0].tolist()
            first = ids.index(tokenizer.sep_token_id) + 1
            types = torch.tensor([[0] * first + [1] * (len(ids) - first)])
            logits = [model(**inputs).logits]
            logits.append(model(inputs["input_ids"], token_type_ids=types).logits if n_types > 1 else logits[0])
            out.write(json.dumps({"ids": ids, "logit": logits[0].item(), "logit_with_types": logits[1].item(),
                                  "cross_encoder": None if cross is None else float(cross)}) + "\n")


if __name__ == "__main__":
    main()
