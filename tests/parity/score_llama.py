#!/usr/bin/env python3
"""Logits of a critic's file by llama.cpp's programs, for test_parity_tools.c: score_llama.py FOLDER TOOLS

FOLDER has critic.gguf and pairs.jsonl ({"question", "text"}; pairs of one question stand together), TOOLS llama-server and
llama-embedding. Writes FOLDER/logits.jsonl: {"rerank", "embedding"}, a line a pair."""
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOM = "512"  # tokens: each pair must fit into one physical batch, for every token sees every other
THREADS = str(len(os.sched_getaffinity(0)))  # more than there are cores for wait for one another
NEXT, TEXT = "<#next#>", "<#text#>"  # as no pair has them


def rerank(folder, tools, pairs):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open(f"{folder}/server.log", "w") as log:
        server = subprocess.Popen([f"{tools}/llama-server", "-m", f"{folder}/critic.gguf", "--reranking", "--host",
                                   "127.0.0.1", "--port", str(port), "-np", "1", "-t", THREADS, "-tb", THREADS, "-c",
                                   ROOM, "-b", ROOM, "-ub", ROOM],
                                  stdout=log, stderr=log)
        try:
            until = time.monotonic() + 60
            while True:
                try:
                    if json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/health"))["status"] == "ok":
                        break
                except (OSError, urllib.error.HTTPError):
                    pass
                if server.poll() is not None or time.monotonic() > until:
                    sys.exit(f"llama-server does not start:\n{open(f'{folder}/server.log').read()[-2000:]}")
                time.sleep(0.1)
            scores = []
            for question, group in itertools.groupby(pairs, key=lambda pair: pair["question"]):
                texts = [pair["text"] for pair in group]
                body = json.dumps({"model": "critic", "query": question, "documents": texts}).encode()
                request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/rerank", body,
                                                 {"Content-Type": "application/json"})
                results = json.load(urllib.request.urlopen(request, timeout=60))["results"]
                assert len(results) == len(texts), results
                scores += [result["relevance_score"] for result in sorted(results, key=lambda each: each["index"])]
            return scores
        finally:
            server.terminate()
            server.wait()


def embed(folder, tools, pairs):
    with open(f"{folder}/prompts.txt", "w", encoding="utf-8", newline="") as file:
        file.write(NEXT.join(f"{pair['question']}{TEXT}{pair['text']}" for pair in pairs))
    done = subprocess.run([f"{tools}/llama-embedding", "-m", f"{folder}/critic.gguf", "--pooling", "rank",
                           "--embd-normalize", "-1", "--embd-output-format", "raw", "--no-escape", "-f",
                           f"{folder}/prompts.txt", "--embd-separator", NEXT, "--cls-separator", TEXT, "-t", THREADS,
                           "-tb", THREADS, "-c", ROOM, "-b", ROOM, "-ub", ROOM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"llama-embedding ends with {done.returncode}:\n{done.stderr[-2000:]}")
    return [float(line) for line in done.stdout.splitlines() if re.fullmatch(r"\s*-?\d+\.\d+\s*", line)]


def main():
    folder, tools = sys.argv[1:]
    with open(f"{folder}/pairs.jsonl", encoding="utf-8") as file:
        pairs = [json.loads(line) for line in file]
    os.environ.pop("LLAMA_ARG_MODEL", None)
    reranked, embedded = rerank(folder, tools, pairs), embed(folder, tools, pairs)
    assert len(reranked) == len(embedded) == len(pairs), (len(reranked), len(embedded), len(pairs))
    with open(f"{folder}/logits.jsonl", "w") as out:
        for a, b in zip(reranked, embedded):
            out.write(json.dumps({"rerank": a, "embedding": b}) + "\n")


if __name__ == "__main__":
    main()
