#!/usr/bin/env python3
"""A tiny random encoder of a family, for test_parity_families.c: python make_family.py FAMILY OUT

Needs torch, transformers and tokenizers. FAMILY is roberta, modernbert, or modernbert-mean, which pools by the mean. The tokenizer is trained on this project's docs, the weights
are drawn at random, everything is fp32 without dropout. Writes into the folder OUT:

  config.json, model.safetensors, tokenizer.json ..   a model for sequence classification with one label
  gradient/      the same kind of folder, and as its weights the gradient of the loss of the first BATCH texts
  plain/         (roberta) the same with vocab.json and merges.txt in place of tokenizer.json
  pairs.jsonl    {"question", "text", "label", "ids", "logit"}: ids of the pair, the names of special tokens in it being text
  odd.jsonl      {"text", "ids"} of texts made to be difficult, without special tokens: every assigned character
                 within a word, runs of spaces, contractions, and the like"""
import glob
import json
import os
import shutil
import sys
import unicodedata

os.environ["HF_HUB_OFFLINE"] = "1"  # a test asks no network for anything

import torch  # noqa: E402
import torch_two  # noqa: E402, F401
from safetensors.torch import save_file  # noqa: E402
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification, RobertaTokenizerFast  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SEED, VOCABULARY, LONGEST, BATCH, PAIRS = 17, 900, 128, 12, 60

ODD = ["", " ", "  ", "\t\n\r", "a", "don't I'll they've we're I'm he'd it's 'S 'LL 're'", "''s 't'd", " 's", "x'", "1,234.5+7 = 1241.5",
       "a  b   c    d\n\n  e\t\tf \n g   ", "   lead", "trail   ", "\u00a0a\u00a0\u00a0b\u2003c\u3000d\u0085e\u2028f", "<s> </s><pad><mask> <unk>",
       "[CLS] x [SEP][MASK] [PAD][UNK]", "\u4e2d\u6587abc\u5b57 x", "\U0001f600 \U0001f468\u200d\U0001f469 ok", "e\u0301\u0323 \u1e69 \u212b q\u0301",
       "\uac00\uac01 \u1100\u1161\u11a8", "\u0661\u0662 \u00bd\u2160x\u00b2", "a\x00b".replace("\x00", ""), "x\x1cy\x1fz\x0b\x0c", "a" * 300, "ab" * 200,
       "ha" * 7 + " " + "lo" * 9, "\u200b\ufeff\u00ad", "\ufffd a\ufffdb", "_under_score__ #tag @me http://x.y/z?q=1&r=2", "        deep\n            er", "x             y  |||EMAIL|||  z||||EMAIL|||| |||EMAIL|| e|||EMAIL|||\u0301 ", "    "]


def odd_texts():
    yield from ODD
    block = []  # every character that this Python's Unicode knows, within words, 64 to a text
    for point in range(1, 0x110000):
        character = chr(point)
        if unicodedata.category(character) in ("Cn", "Cs"):
            continue
        if 0x3400 < point < 0x9000 or 0xAC10 < point < 0xD700 or point > 0x20000:
            if point % 97:  # of the large blocks of one kind some will do
                continue
        block.append(f"a{character}b {character}1{character}")
        if len(block) == 64:
            yield " ".join(block)
            block = []
    yield " ".join(block)


def corpus():
    lines = []
    for name in sorted(glob.glob(f"{ROOT}/docs/*.md")):
        with open(name, encoding="utf-8") as text:
            lines += [line.rstrip("\n") for line in text if line.strip()]
    return lines


def train(specials, normalizer=None):
    tokenizer = Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=specials, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer


def roberta():
    tokenizer = train(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    config = RobertaConfig(vocab_size=tokenizer.get_vocab_size(), hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
                           intermediate_size=80, max_position_embeddings=LONGEST + 2, type_vocab_size=1, layer_norm_eps=1e-5,
                           num_labels=1, attn_implementation="eager")
    return RobertaTokenizerFast(tokenizer_object=tokenizer), RobertaForSequenceClassification(config)


def modernbert(pooling):
    """As the published ones: the text composed, runs of spaces tokens of their own; here with small windows."""
    from transformers import ModernBertConfig, ModernBertForSequenceClassification
    tokenizer = train(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"], normalizers.NFC())
    tokenizer.add_tokens([AddedToken(" " * n, normalized=True, special=False) for n in range(12, 1, -1)] +
                         [AddedToken("|||EMAIL|||", normalized=True, special=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:0 [SEP]:0", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    config = ModernBertConfig(vocab_size=tokenizer.get_vocab_size() + 3, hidden_size=48, num_hidden_layers=5,
                              num_attention_heads=4, intermediate_size=56, max_position_embeddings=LONGEST, local_attention=16,
                              global_attn_every_n_layers=3, classifier_pooling=pooling, num_labels=1, pad_token_id=3,
                              bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2, reference_compile=False,
                              attn_implementation="eager")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
                                   pad_token="[PAD]", mask_token="[MASK]", model_input_names=["input_ids", "attention_mask"])
    return fast, ModernBertForSequenceClassification(config)


FAMILIES = {"roberta": roberta, "modernbert": lambda: modernbert("cls"), "modernbert-mean": lambda: modernbert("mean")}


def randomise(model):
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            gain = "norm" in name.lower() and name.endswith("weight")
            parameter.normal_(1.0 if gain else 0.0, 0.2, generator=generator)
    return model.eval()


def logits_of(model, texts, padding):
    longest = max(len(text["ids"]) for text in texts)
    ids = torch.full((len(texts), longest), padding, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, text in enumerate(texts):
        ids[i, :len(text["ids"])] = torch.tensor(text["ids"])
        mask[i, :len(text["ids"])] = 1
    return model(input_ids=ids, attention_mask=mask).logits[:, 0]


def choose_pairs(tokenizer):
    lines = [line for line in corpus() if "|" not in line] + ODD[4:]
    pairs = []
    for i in range(0, len(lines) - 1, 2):
        ids = tokenizer(lines[i], lines[i + 1])["input_ids"]
        if len(ids) <= LONGEST:
            pairs.append({"question": lines[i], "text": lines[i + 1], "label": i // 2 % 3 % 2, "ids": ids})
    return pairs[:PAIRS - 10] + pairs[-10:]


def write_lines(name, rows):
    with open(name, "w") as out:
        for row in rows:
            out.write(json.dumps(row) + "\n")


def main():
    family, folder = sys.argv[1:3]
    torch.manual_seed(SEED)
    try:
        tokenizer, model = FAMILIES[family]()
    except ImportError as why:
        print(f"{family}: {why}")
        sys.exit(77)
    tokenizer.split_special_tokens = True  # their names are text
    randomise(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    pairs = choose_pairs(tokenizer)
    with torch.no_grad():
        for pair in pairs:
            pair["logit"] = logits_of(model, [pair], model.config.pad_token_id).item()
    write_lines(f"{folder}/odd.jsonl", ({"text": text, "ids": tokenizer(text, add_special_tokens=False)["input_ids"]}
                                        for text in odd_texts()))
    labels = torch.tensor([float(pair["label"]) for pair in pairs[:BATCH]])
    torch.nn.functional.binary_cross_entropy_with_logits(logits_of(model, pairs[:BATCH], model.config.pad_token_id),
                                                         labels).backward()
    names = ["config.json", "tokenizer_config.json", "tokenizer.json"]
    for extra in ("gradient", "plain"):
        os.makedirs(f"{folder}/{extra}")
        for name in names:
            shutil.copyfile(f"{folder}/{name}", f"{folder}/{extra}/{name}")
    save_file({name: p.grad.contiguous() for name, p in model.named_parameters()}, f"{folder}/gradient/model.safetensors")
    os.remove(f"{folder}/plain/tokenizer.json")
    for name in ("vocab.json", "merges.txt", "model.safetensors"):
        if os.path.exists(f"{folder}/{name}"):
            shutil.copyfile(f"{folder}/{name}", f"{folder}/plain/{name}")
    write_lines(f"{folder}/pairs.jsonl", pairs)
    print(f"{family}: {len(pairs)} pairs of {min(len(p['ids']) for p in pairs)} to {max(len(p['ids']) for p in pairs)} tokens, "
          f"logits from {min(p['logit'] for p in pairs):.2f} to {max(p['logit'] for p in pairs):.2f}")


if __name__ == "__main__":
    main()
