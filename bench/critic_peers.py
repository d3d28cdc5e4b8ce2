#!/usr/bin/env python3
"""The peers of bench/critic-score, in the Python that it prepares: torch and ONNX Runtime over one exported critic.

    critic_peers.py prepare FOLDER IN OUT    pairs with their token ids, 512 at most; those with "length" get exactly that many
    critic_peers.py serve KIND FOLDER        the commands of bench/critic_score.c; KIND: torch-bf16, torch-fp32, ort-fp32,
                                             ort-int8

Token ids are prepared: what is timed here is the model alone, while drr's time has its tokenising in it. A batch is padded
to its longest; "run BATCH SECONDS SUB" sorts it by length and takes SUB texts at a time, which saves padding."""
import json
import os
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
import numpy as np  # noqa: E402

THREADS, MOST = len(os.sched_getaffinity(0)), 512


# ---- pairs

def exact(tokenizer, question, text, length):
    """A text, of words of this one over and over, with which the pair has `length` tokens."""
    words = text.split() * 40
    low, high = 0, len(words)
    while low < high:  # most words that fit
        middle = (low + high + 1) // 2
        fits = len(tokenizer(question, " ".join(words[:middle]))["input_ids"]) <= length
        low, high = (middle, high) if fits else (low, middle - 1)
    made = words[:low]
    while len(tokenizer(question, " ".join(made))["input_ids"]) < length:
        made.append("the")
    return " ".join(made)


def prepare(folder, given, out):
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with open(given, encoding="utf-8") as lines, open(out, "w", encoding="utf-8") as written:
        for pair in map(json.loads, lines):
            if pair.get("length"):
                pair["text"] = exact(tokenizer, pair["question"], pair["text"], pair["length"])
            pair["ids"] = tokenizer(pair["question"], pair["text"])["input_ids"]
            if len(pair["ids"]) <= MOST:  # each cuts a longer one in its own way
                written.write(json.dumps(pair) + "\n")


# ---- models: a function from ids[n][longest] and mask to logits

def padded(rows):
    longest = max(map(len, rows))
    ids, mask = np.zeros((len(rows), longest), np.int64), np.zeros((len(rows), longest), np.int64)
    for i, row in enumerate(rows):
        ids[i, :len(row)] = row
        mask[i, :len(row)] = 1
    return ids, mask


def torch_model(folder, half):
    import torch
    from transformers import AutoModelForSequenceClassification
    torch.set_num_threads(THREADS)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    if half:
        model = model.to(torch.bfloat16)

    def run(rows):
        ids, mask = padded(rows)
        with torch.inference_mode():
            all_there = {} if mask.all() else {"attention_mask": torch.from_numpy(mask)}
            return model(input_ids=torch.from_numpy(ids), **all_there).logits[:, 0].float().numpy()
    return run


def write_onnx(folder, path):
    """BERT for classification with the fused operators that ONNX Runtime's own optimizer puts into one."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.numpy import load_file
    weights = {k.removeprefix("bert."): v for k, v in load_file(os.path.join(folder, "model.safetensors")).items()}
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        c = json.load(file)
    nodes, constants, n = [], {}, [0]

    def constant(name, value):
        constants[name] = numpy_helper.from_array(np.require(value, requirements="C"), name)
        return name

    def add(operator, inputs, domain="", **attributes):
        n[0] += 1
        nodes.append(helper.make_node(operator, inputs, [f"v{n[0]}"], name=f"{operator}{n[0]}", domain=domain, **attributes))
        return f"v{n[0]}"

    def contrib(operator, inputs, **attributes):
        return add(operator, inputs, "com.microsoft", **attributes)

    def linear(x, name, where=""):
        x = add("MatMul", [x, constant(f"{name}.w{where}", weights[f"{name}.weight"].T)])
        return x, constant(f"{name}.b{where}", weights[f"{name}.bias"])

    epsilon = c["layer_norm_eps"]
    word = add("Gather", [constant("word", weights["embeddings.word_embeddings.weight"]), "ids"])
    place = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    position = add("Gather", [constant("position", place), "positions"])
    norm = "embeddings.LayerNorm"
    x = add("LayerNormalization", [add("Add", [word, position]), constant("g", weights[f"{norm}.weight"]),
                                   constant("s", weights[f"{norm}.bias"])], axis=-1, epsilon=epsilon)
    for i in range(c["num_hidden_layers"]):
        at = f"encoder.layer.{i}."
        parts = [at + f"attention.self.{part}." for part in ("query", "key", "value")]
        qkv = constant(f"{at}qkv", np.concatenate([weights[p + "weight"].T for p in parts], 1))
        bias = constant(f"{at}qkv.b", np.concatenate([weights[p + "bias"] for p in parts]))
        context = contrib("Attention", [x, qkv, bias, "mask"], num_heads=c["num_attention_heads"])
        for dense, norm, wide in ((at + "attention.output.dense", at + "attention.output.LayerNorm", None),
                                  (at + "output.dense", at + "output.LayerNorm", at + "intermediate.dense")):
            branch = contrib("BiasGelu", [*linear(x, wide)]) if wide else context
            y, b = linear(branch, dense)
            x = contrib("SkipLayerNormalization", [y, x, constant(f"{norm}.g", weights[f"{norm}.weight"]),
                                                   constant(f"{norm}.s", weights[f"{norm}.bias"]), b], epsilon=epsilon)
    first = add("Gather", [x, constant("zero", np.array(0, np.int64))], axis=1)
    pooled = add("Tanh", [add("Add", [*linear(first, "pooler.dense")])])
    last = add("Add", [*linear(pooled, "classifier")])
    nodes[-1].output[0] = "logits"
    assert last
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "t"]),
              helper.make_tensor_value_info("positions", TensorProto.INT64, [1, "t"]),
              helper.make_tensor_value_info("mask", TensorProto.INT32, ["n", "t"])]
    graph = helper.make_graph(nodes, "critic", inputs, [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1])],
                              list(constants.values()))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)],
                                ir_version=9), path)


def ort_model(folder, eight):
    import onnxruntime
    path = os.path.join(folder, f"for-{'int8' if eight else 'fp32'}.onnx")  # two processes may do this at once
    write_onnx(folder, path)
    if eight:
        import logging
        from onnx import TensorProto
        from onnxruntime.quantization import QuantType, quantize_dynamic
        logging.getLogger().setLevel(logging.ERROR)
        small = os.path.join(folder, "int8.onnx")
        quantize_dynamic(path, small, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Attention"],
                         extra_options={"DefaultTensorType": TensorProto.FLOAT})  # of ONNX Runtime's own operators
        path = small
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(rows):
        ids, mask = padded(rows)
        return session.run(None, {"ids": ids, "positions": np.arange(ids.shape[1])[None], "mask": mask.astype(np.int32)})[0][:, 0]
    return run


# ---- serving

def score(model, rows, sub):
    if not sub or sub >= len(rows):
        return model(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    logits = np.zeros(len(rows), np.float32)
    for at in range(0, len(order), sub):
        part = order[at:at + sub]
        logits[part] = model([rows[i] for i in part])
    return logits


def serve(kind, folder):
    family, precision = kind.split("-")
    model = torch_model(folder, precision == "bf16") if family == "torch" else ort_model(folder, precision == "int8")
    rows, at = [], 0
    for line in sys.stdin:
        words = line.split()
        if words[0] == "load":
            with open(line.split(" ", 1)[1].rstrip("\n"), encoding="utf-8") as lines:
                rows, at = [json.loads(row)["ids"] for row in lines], 0
            answer = f"loaded {len(rows)}"
        elif words[0] == "run":
            batch, seconds, sub = int(words[1]), float(words[2]), int(words[3]) if len(words) > 3 else 0
            times, end = [], time.perf_counter() + seconds
            while len(times) < (3 if seconds >= .5 else 1) or time.perf_counter() < end:
                given = [rows[(at + i) % len(rows)] for i in range(batch)]
                at += batch
                began = time.perf_counter()
                score(model, given, sub)
                times.append(time.perf_counter() - began)
            answer = " ".join(f"{t:.7f}" for t in times)
        else:
            answer = " ".join(f"{x:.6f}" for x in score(model, rows[:16], 0))
        print(answer, flush=True)


if __name__ == "__main__":
    prepare(*sys.argv[2:]) if sys.argv[1] == "prepare" else serve(*sys.argv[2:])
