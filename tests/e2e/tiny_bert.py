"""A BERT of random weights in a Hugging Face folder, small enough that training it takes seconds: make(folder, **sizes).
Standard library alone. Also reads safetensors, to compare what was trained."""
import array
import json
import os
import random
import struct

SIZES = {"layers": 3, "width": 32, "heads": 4, "ff": 64, "positions": 96}
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def vocabulary():
    """Every word of letters and digits can be spelt with it."""
    return (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list("?.,:()'-") + list(CHARACTERS) +
            ["##" + letter for letter in CHARACTERS])


def shapes(size, n_vocab):
    width, ff = size["width"], size["ff"]
    yield "embeddings.word_embeddings.weight", (n_vocab, width)
    yield "embeddings.position_embeddings.weight", (size["positions"], width)
    yield "embeddings.token_type_embeddings.weight", (2, width)
    yield "embeddings.LayerNorm.weight", (width,)
    yield "embeddings.LayerNorm.bias", (width,)
    for layer in range(size["layers"]):
        at = f"encoder.layer.{layer}."
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            yield f"{at}{name}.weight", (width, width)
            yield f"{at}{name}.bias", (width,)
        yield f"{at}intermediate.dense.weight", (ff, width)
        yield f"{at}intermediate.dense.bias", (ff,)
        yield f"{at}output.dense.weight", (width, ff)
        yield f"{at}output.dense.bias", (width,)
        for norm in ("attention.output", "output"):
            yield f"{at}{norm}.LayerNorm.weight", (width,)
            yield f"{at}{norm}.LayerNorm.bias", (width,)


def make(folder, seed=1, spread=0.08, scales=(), **sizes):
    """scales: {name: factor} of tensors that are to be larger or smaller than usual."""
    size = {**SIZES, **sizes}
    words = vocabulary()
    source = random.Random(seed)
    header, body = {}, bytearray()
    for name, shape in shapes(size, len(words)):
        n = shape[0] * (shape[1] if len(shape) > 1 else 1)
        if "LayerNorm.weight" in name:
            values = [1.0] * n
        elif name.endswith("bias"):
            values = [0.0] * n
        else:
            values = [source.gauss(0, spread) for _ in range(n)]
        if name in scales:
            values = [value * scales[name] for value in values]
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(body), len(body) + 4 * n]}
        body += array.array("f", values).tobytes()
    os.makedirs(folder)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + body)
    with open(os.path.join(folder, "vocab.txt"), "w") as file:
        file.write("\n".join(words) + "\n")
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump({"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute",
                   "num_hidden_layers": size["layers"], "hidden_size": size["width"], "num_attention_heads": size["heads"],
                   "intermediate_size": size["ff"], "vocab_size": len(words), "max_position_embeddings": size["positions"],
                   "type_vocab_size": 2, "layer_norm_eps": 1e-12}, file)


def tensors(path):
    """{name: array of floats} of a safetensors file in F32."""
    with open(path, "rb") as file:
        data = file.read()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            found[name] = array.array("f", data[8 + length + begin:8 + length + end])
    return found
