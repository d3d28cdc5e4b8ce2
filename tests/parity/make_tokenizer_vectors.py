#!/usr/bin/env python3
"""Ids of transformers' BertTokenizer for test_parity_tokenizer.c: python make_tokenizer_vectors.py SHARED ENCODER OUT

Needs transformers and tokenizers (TRANSFORMERS and TOKENIZERS below; others may do). Writes two files into the folder OUT:

  tokenizer-texts.txt   for every text of SHARED/data/*.jsonl (question, choices) and SHARED/traces/*.replay.jsonl.gz
                        (question, text): the first 16 hex digits of the SHA-256 of its ids as little-endian int32.
                        Before each file's lines stands "# name bytes".
  tokenizer-odd.jsonl   {"text", "lowercase", "ids"} for texts made to be difficult: every assigned character within a
                        word, and what the comments below say.

The truth is the tokenizer in Python (BertTokenizerLegacy, BertTokenizer before transformers 5). It is slow, so a text of
ASCII alone goes through the one in Rust, after both have agreed on every 50th such text; any difference ends the program."""
import glob
import gzip
import hashlib
import json
import os
import struct
import sys
import unicodedata

TRANSFORMERS, TOKENIZERS = "4.48.3", "0.21.0"

import tokenizers  # noqa: E402
import transformers  # noqa: E402
from tokenizers import BertWordPieceTokenizer  # noqa: E402

try:
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy as Slow
except ImportError:
    from transformers import BertTokenizer as Slow

SAMPLE = 50


def slow_ids(tokenizer, text):
    return tokenizer.convert_tokens_to_ids(tokenizer._tokenize(text, split_special_tokens=True))


def texts_of(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            row = json.loads(line)
            yield row["question"]
            yield from row.get("choices") or ()
            if path.endswith(".gz"):
                yield row["text"]


def odd_texts():
    yield from ["", " ", "\t\n\r", "a" * 100, "a" * 101, "b " + "\u00e9" * 101 + " c", "[SEP] x [CLS][MASK] [UNK]",
                "don't (stop)!", "\u4e2d\u6587 abc\u5b57x", "\ufb03 \u0130stanbul Stra\u00dfe \u1e9e", "e\u0301\u0323 \u1e69",
                "\uac00\uac01 \u1100\u1161\u11a8", "\u212b \u2126 \u037e \u1fef", "a\u200db\ufeffc\u00add", "x\u2028y\u2029z\u0085w",
                "\U0001f600 \U0001f468\u200d\U0001f469", "##ing # #", "\u0345\u03b1\u0345 \u1fb3", "\ufffd a\ufffdb", "1,234.5\u00b11"]
    sigma = ["\u03a3", "\u0391\u03a3", "\u0391\u03a3\u0391", "\u0391'\u03a3", "\u0391\u03a3.", "\u0391\u03a3.\u0391", "\u03a3\u03a3",
             "\u0391\u0301\u03a3\u0301", "1\u03a3", "\u0391\u00ad\u03a3", "a\u02b0\u03a3", "\u2160\u03a3", "\u24b6\u03a3", "\u4e2d\u03a3",
             "\u00aa\u03a3", "\u0391\u03a3:", "\u0391\u03a3\u00b7\u0392", "\u0391\u03a3 \u0391", "\u0391\u03a3-\u0391", "\u0391\u03a3\u2019\u0391"]
    yield " ".join(sigma)
    yield from sigma
    marks = "\u0301\u0323\u0308\u0327\u0345\u05b0\u302e\U0001d165"  # in an order that is not canonical
    yield from ("q" + marks[i:] + marks[:i] + "z" for i in range(len(marks)))
    block = []  # every character that this Python's Unicode knows, within words, 64 to a text
    for point in range(1, 0x110000):
        character = chr(point)
        if unicodedata.category(character) in ("Cn", "Cs"):
            continue
        block.append(f"a{character}b {character}")
        if len(block) == 64:
            yield " ".join(block)
            block = []
    yield " ".join(block)


def write_odd(vocabulary, path):
    count = 0
    with open(path + ".part", "w") as out:
        for lowercase in (True, False):
            tokenizer = Slow(vocabulary, do_lower_case=lowercase)
            for text in odd_texts():
                out.write(json.dumps({"text": text, "lowercase": lowercase, "ids": slow_ids(tokenizer, text)}) + "\n")
                count += 1
    os.rename(path + ".part", path)
    return count


def all_ids(slow, fast, texts):
    plain = [text for text in texts if text.isascii()]
    quick = dict(zip(plain, (e.ids for e in fast.encode_batch(plain, add_special_tokens=False))))
    for text in plain[::SAMPLE]:
        if quick[text] != slow_ids(slow, text):
            sys.exit(f"the tokenizers in Python and Rust differ on an ASCII text: {text!r}")
    known = {}
    for text in texts:
        if text not in quick and text not in known:
            known[text] = slow_ids(slow, text)
    differ = sum(fast.encode(text, add_special_tokens=False).ids != ids for text, ids in known.items())
    return {**quick, **known}, len(set(plain[::SAMPLE])), len(known), differ


def write_texts(shared, vocabulary, path):
    slow = Slow(vocabulary)
    fast = BertWordPieceTokenizer(vocabulary, lowercase=True)
    fast._tokenizer.encode_special_tokens = True
    count = [0, 0, 0, 0]
    with open(path + ".part", "w") as out:
        for name in sorted(glob.glob(f"{shared}/data/*.jsonl")) + sorted(glob.glob(f"{shared}/traces/*.replay.jsonl.gz")):
            texts = list(texts_of(name))
            ids, *some = all_ids(slow, fast, texts)
            out.write(f"# {os.path.relpath(name, shared)} {os.path.getsize(name)}\n")
            for text in texts:
                packed = struct.pack(f"<{len(ids[text])}i", *ids[text])
                out.write(hashlib.sha256(packed).hexdigest()[:16] + "\n")
            count = [a + b for a, b in zip(count, [len(texts), *some])]
    os.rename(path + ".part", path)
    return count


def main():
    shared, encoder, out = sys.argv[1:4]
    versions = (transformers.__version__, tokenizers.__version__)
    if versions != (TRANSFORMERS, TOKENIZERS):
        print(f"note: transformers {versions[0]}, tokenizers {versions[1]}; made for {TRANSFORMERS} and {TOKENIZERS}")
    vocabulary = os.path.join(encoder, "vocab.txt")
    os.makedirs(out, exist_ok=True)
    odd = write_odd(vocabulary, os.path.join(out, "tokenizer-odd.jsonl"))
    n, sampled, by_slow, differ = write_texts(shared, vocabulary, os.path.join(out, "tokenizer-texts.txt"))
    print(f"{n} texts, {odd} odd ones; Python and Rust agree on {sampled} ASCII texts; of {by_slow} others, whose ids are "
          f"Python's, they differ on {differ}")


if __name__ == "__main__":
    main()
