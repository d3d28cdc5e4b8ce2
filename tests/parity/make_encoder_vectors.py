#!/usr/bin/env python3
"""Logits, gradients and updates of torch for test_parity_encoder.c: python make_encoder_vectors.py SHARED ENCODER OUT

Needs torch and transformers (VERSIONS below; others may do). From the BERT folder ENCODER and texts of
SHARED/traces/*.replay.jsonl.gz it writes the folder OUT/encoder, in place of one that is there:

  model.safetensors, config.json, vocab.txt   BertForSequenceClassification with one label and a head from SEED
  gradient/, updated/   the same kind of folder, and as its weights: the gradient of the first batch's loss; the weights
                        after STEPS updates. So whoever reads the model reads these, in the same order.
  texts.jsonl           {"question", "text", "label", "ids", "logit"}, ids as BertTokenizer cuts them; token type 0
  run.json              the options of the updates; loss, gradient norm before clipping and learning rate of each

Everything is fp32 without dropout. A logit is of its text alone; a step is BATCH texts, padded and masked, in their order
in texts.jsonl; an update is torch.optim.AdamW's after clip_grad_norm_, without decay for biases and norms."""
import glob
import gzip
import json
import os
import shutil
import sys
import tempfile

VERSIONS = {"torch": "1.13.0a0", "transformers": "4.48.3"}

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers import AutoTokenizer, BertForSequenceClassification  # noqa: E402

SEED, TEXTS, MOST_TOKENS, BATCH, STEPS = 17, 200, 256, 16, 10
HEAD_DEVIATION = 0.5  # of the classifier: the logits spread over some units
RATE, DECAY, WARMUP_SHARE, CLIP = 5e-5, 0.01, 0.2, 8.0


def choose_texts(shared):
    """Traces spread evenly over each file, the files by turns, so that every batch has some of each."""
    columns = []
    names = sorted(glob.glob(f"{shared}/traces/*.replay.jsonl.gz"))
    for name in names:
        with gzip.open(name, "rt", encoding="utf-8", newline="\n") as lines:
            rows = [json.loads(line) for line in lines]
        rows = [row for row in rows if row["text"].strip()]
        each = -(-TEXTS // len(names))
        columns.append([rows[i * len(rows) // each] for i in range(each)])
    if not columns:
        sys.exit(f"there are no traces in {shared}/traces")
    chosen = [row for turn in zip(*columns) for row in turn][:TEXTS]
    return [{"question": row["question"], "text": row["text"], "label": int(row["correct"])} for row in chosen]


def build_model(encoder):
    model = BertForSequenceClassification.from_pretrained(encoder, num_labels=1, attn_implementation="eager")
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        model.classifier.weight.normal_(0, HEAD_DEVIATION, generator=generator)
        model.classifier.bias.fill_(0.05)
    return model.eval()


def logits_of(model, texts):
    longest = max(len(text["ids"]) for text in texts)
    ids = torch.zeros(len(texts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, text in enumerate(texts):
        ids[i, :len(text["ids"])] = torch.tensor(text["ids"])
        mask[i, :len(text["ids"])] = 1
    return model(input_ids=ids, attention_mask=mask, token_type_ids=torch.zeros_like(ids)).logits[:, 0]


def backward(model, texts):
    model.zero_grad(set_to_none=True)
    labels = torch.tensor([float(text["label"]) for text in texts])
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits_of(model, texts), labels)
    loss.backward()
    return loss.item()


def rate_at(step):
    """As src/train/fit.c: up from the first step on, not from 0, and then down, to 0 after the last."""
    warm = int(WARMUP_SHARE * STEPS)
    return RATE * ((step + 1) / warm if step < warm else (STEPS - step) / (STEPS - warm))


def update(model, texts):
    decays = {True: [], False: []}
    for name, parameter in model.named_parameters():
        decays[not (name.endswith(".bias") or "LayerNorm" in name)].append(parameter)
    optimizer = torch.optim.AdamW([{"params": decays[True], "weight_decay": DECAY},
                                   {"params": decays[False], "weight_decay": 0.0}], lr=RATE)
    steps = []
    for step in range(STEPS):
        loss = backward(model, texts[step * BATCH:(step + 1) * BATCH])
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP).item()
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step)
        optimizer.step()
        steps.append({"loss": loss, "norm": norm, "rate": rate_at(step)})
    return steps


def save_values(folder, base, values):
    """The folder `base` again, with other values for its weights."""
    os.makedirs(folder)
    for name in ("config.json", "vocab.txt", "tokenizer_config.json"):
        shutil.copyfile(os.path.join(base, name), os.path.join(folder, name))
    save_file({name: value.detach().contiguous() for name, value in values}, os.path.join(folder, "model.safetensors"))


def write_all(shared, encoder, folder):
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    texts = choose_texts(shared)
    model = build_model(encoder)
    model.save_pretrained(folder)
    shutil.copyfile(os.path.join(encoder, "vocab.txt"), os.path.join(folder, "vocab.txt"))
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as out:
        json.dump({"do_lower_case": True}, out)
    with open(os.path.join(folder, "texts.jsonl"), "w") as out, torch.inference_mode():
        for text in texts:
            text["ids"] = tokenizer(text["question"], text["text"], truncation=True, max_length=MOST_TOKENS)["input_ids"]
            text["logit"] = logits_of(model, [text]).item()
            out.write(json.dumps(text) + "\n")
    backward(model, texts[:BATCH])
    save_values(os.path.join(folder, "gradient"), folder, [(name, p.grad) for name, p in model.named_parameters()])
    steps = update(model, texts)
    save_values(os.path.join(folder, "updated"), folder, model.named_parameters())
    options = {"batch": BATCH, "learning_rate": RATE, "weight_decay": DECAY, "warmup_share": WARMUP_SHARE,
               "clip_norm": CLIP, "steps": steps}
    with open(os.path.join(folder, "run.json"), "w") as out:
        json.dump(options, out, indent=1)
    return texts, steps


def main():
    shared, encoder, out = sys.argv[1:4]
    versions = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
    if versions != VERSIONS:
        print(f"note: {versions}; made for {VERSIONS}")
    folder = os.path.join(out, "encoder")
    os.makedirs(out, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="encoder.", dir=out) as scratch:
        part = os.path.join(scratch, "encoder")
        os.makedirs(part)
        texts, steps = write_all(shared, encoder, part)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(part, folder)
    logits = [text["logit"] for text in texts]
    print(f"{len(texts)} texts of {min(len(t['ids']) for t in texts)} to {max(len(t['ids']) for t in texts)} tokens, logits "
          f"from {min(logits):.2f} to {max(logits):.2f}; gradient norms {', '.join('%.2f' % s['norm'] for s in steps)}")


if __name__ == "__main__":
    main()
