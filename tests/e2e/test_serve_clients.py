#!/usr/bin/env python3
"""Real clients before `drr serve`: the openai package (plain, async, streaming, extra_body, decisions), curl, LiteLLM (chat, and its
decision and rerank routes); and real upstreams behind it: llama-server, the embedded model, a second drr. Needs the Python that
`tools/setup client-python` makes; what else is missing is skipped by name."""
import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
from serving import ANSWER, Process, Served, Upstream, chat, environment, events, free_port, is_error, make_critic, missing, request  # noqa: E402
from checks import CACHE, ROOT, check, failures  # noqa: E402

KEY, UPSTREAM_KEY = "drr-client-key-41c7", "drr-upstream-key-9e02"
SMALL = os.path.join(CACHE, "models", "smollm2-135m.gguf")
WORK = tempfile.mkdtemp(prefix="drr-e2e.")
count = 0


def at(name):
    return os.path.join(WORK, name)


def client_python():
    """The interpreter that has the clients, or why there is none."""
    done = subprocess.run([os.path.join(ROOT, "tools", "setup"), "--offline", "client-python"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    return (done.stdout.strip(), None) if not done.returncode else (None, done.stderr.strip())


def nonce():
    global count
    count += 1
    return f"nonce-{os.getpid():x}-{count}"


def ask(text):
    return [{"role": "system", "content": "You answer in few words."}, {"role": "user", "content": f"What of {text}?"}]


def answer(text):
    return ANSWER.replace("{nonce}", text)


# ---- the openai package

def check_openai(served):
    import openai
    client = openai.OpenAI(base_url=served.url, api_key=KEY, max_retries=0, timeout=60)
    asked = nonce()
    raw = client.chat.completions.with_raw_response.create(
        model="drr", messages=ask(asked), extra_body={"drr": {"threshold": 0}}, extra_headers={"x-request-id": "mine-1"})
    said = raw.parse()
    drr = (said.model_extra or {}).get("drr") or {}
    check("openai: an answer, word for word the upstream's", said.choices[0].message.content == answer(asked), said)
    check("openai: it is a completion as OpenAI's", said.id.startswith("chatcmpl-") and said.object == "chat.completion" and
          said.choices[0].finish_reason == "stop" and said.choices[0].message.role == "assistant", said)
    check("openai: the drr object says what the critic thought", drr.get("verdict") == "accept" and 0 <= drr["p_correct"] <= 1 and
          len(drr["turns"]) == 1, drr)
    one = said.usage
    check("openai: usage is the upstream's", one.prompt_tokens == 50 and one.total_tokens == 50 + one.completion_tokens, one)
    check("openai: so do the headers", raw.headers.get("x-drr-verdict") == "accept" and raw.headers.get("x-drr-turns") == "1" and
          float(raw.headers.get("x-drr-p-correct", 9)) <= 1 and raw.headers.get("x-request-id") == "mine-1" and
          raw.headers.get("x-drr-request-id"), dict(raw.headers))
    asked = nonce()
    said = client.chat.completions.create(model="drr", messages=ask(asked), extra_body={
        "drr": {"threshold": 1, "max_turns": 3, "on_exhausted": "best"}})
    drr = (said.model_extra or {}).get("drr") or {}
    check("extra_body: a threshold that nothing reaches takes all turns", len(drr.get("turns", [])) == 3, drr)
    check("and their usage is summed", said.usage.prompt_tokens == 150 and said.usage.completion_tokens == 3 * one.completion_tokens,
          said.usage)
    check("and the best of them is the answer, and is not called accepted", said.choices[0].message.content == answer(asked) and
          drr.get("verdict") not in (None, "accept"), said)
    said = client.chat.completions.create(model="drr", messages=ask(nonce()), extra_body={
        "drr": {"threshold": 1, "max_turns": 2, "on_exhausted": "abstain"}})
    drr = (said.model_extra or {}).get("drr") or {}
    check("extra_body: or it abstains, with an answer that says so", drr.get("verdict") == "abstain" and
          said.choices[0].finish_reason == "stop" and "nonce-" not in (said.choices[0].message.content or "nonce-"), said)
    listed = [model.id for model in client.models.list()]
    check("openai: models are listed, the upstream's and drr's", "instant" in listed and any(m.startswith("drr") for m in listed), listed)
    check_openai_stream(client, one)
    for what, call, kind in (
            ("a wrong key", lambda: openai.OpenAI(base_url=served.url, api_key="wrong", max_retries=0).chat.completions.create(
                model="drr", messages=ask("x")), openai.AuthenticationError),
            ("no messages", lambda: client.chat.completions.create(model="drr", messages=[]), openai.BadRequestError),
            ("a policy that makes no sense", lambda: client.chat.completions.create(
                model="drr", messages=ask("x"), extra_body={"drr": {"max_turns": -1}}), openai.BadRequestError),
            ("a model that is not there", lambda: client.models.retrieve("no-such-model"), openai.NotFoundError)):
        try:
            seen = call()
        except openai.APIStatusError as error:
            seen = error
        check(f"openai: {what} is its own exception, with words", isinstance(seen, kind) and is_error({"error": seen.body}), repr(seen),
              getattr(seen, "body", None))
    seen = client.post("/embeddings", body={"model": "instant", "input": "as it is"}, cast_to=object)
    check("openai: embeddings pass through as they are", seen.get("path") == "/v1/embeddings" and '"as it is"' in seen.get("body", ""), seen)
    check("and a key that the upstream repeats is not told", seen.get("authorization") == "Bearer " + "*" * len(UPSTREAM_KEY), seen)
    check_openai_tools(client)
    check_openai_decisions(client)


def check_openai_stream(client, usage):
    asked = nonce()
    chunks = list(client.chat.completions.create(model="drr", messages=ask(asked), stream=True, stream_options={"include_usage": True},
                                                 extra_body={"drr": {"threshold": 0}}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    last = [c for c in chunks if c.choices][-1]
    check("openai stream: the same answer in chunks", text == answer(asked), text)
    check("openai stream: one id, a role first, a reason last", len({c.id for c in chunks}) == 1 and
          chunks[0].choices[0].delta.role == "assistant" and last.choices[0].finish_reason == "stop" and
          all(c.choices[0].finish_reason is None for c in chunks if c.choices and c is not last), chunks[0], last)
    check("openai stream: usage in a chunk of its own at the end", not chunks[-1].choices and chunks[-1].usage and
          chunks[-1].usage.total_tokens == usage.total_tokens and all(c.usage is None for c in chunks[:-1]), chunks[-1])
    check("openai stream: the verdict in the last chunk with choices", ((last.model_extra or {}).get("drr") or {}).get("verdict") == "accept", last)
    asked = nonce()
    plain = list(client.chat.completions.create(model="drr", messages=ask(asked), stream=True))
    check("openai stream: no usage where none was asked for", all(c.usage is None and c.choices for c in plain), plain[-1])
    asked = nonce()
    chunks = list(client.chat.completions.create(model="drr", messages=ask(asked), stream=True, extra_body={
        "drr": {"threshold": 1, "max_turns": 2, "on_exhausted": "best", "stream_mode": "live"}}))
    thought = "".join((c.choices[0].delta.model_extra or {}).get("reasoning_content") or "" for c in chunks if c.choices)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    check("openai stream, live: each attempt as reasoning_content, the answer alone as content",
          thought.count(f"Answer: {asked}") == 2 and text == answer(asked), thought, text)


def check_openai_tools(client):
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
    asked = nonce()
    said = client.chat.completions.create(model="drr", messages=ask(asked), tools=tools)
    drr = (said.model_extra or {}).get("drr") or {}
    check("openai: with tools the answer passes unjudged", said.choices[0].message.content == answer(asked) and
          drr.get("verdict") not in ("accept", "reject"), said)


PAIR = "Question: What is two and two?\nAnswer: Two and two are four, so 4."
RIGHT = "Is the answer correct?"


def check_openai_decisions(client):
    import openai
    said = [{"type": "message", "role": "user", "content": "What is two and two?"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Two and two are four, so 4."}]}]
    answered = client.decisions.create(model="drr", input=said, questions=[
        {"type": "predicate", "instructions": RIGHT, "name": "right"},
        {"type": "predicate", "instructions": "Is this the right answer to: What is two and three?"}])
    first = answered.answers[0]
    check("openai decisions: a probability for each predicate", [a.type for a in answered.answers] == ["predicate", "predicate"] and
          first.name == "right" and answered.answers[1].name is None and all(0 <= a.probability <= 1 for a in answered.answers), answered)
    check("openai decisions: usage counts what was read", answered.usage.input_tokens > 10 and answered.usage.output_tokens == 0 and
          answered.usage.total_tokens == answered.usage.input_tokens, answered.usage)
    again = client.decisions.create(model="drr", input=PAIR, questions=[{"type": "predicate", "instructions": RIGHT}])
    check("openai decisions: the same pair has the same answer, as one text or two messages, alone or beside others",
          abs(again.answers[0].probability - first.probability) < 1e-4, again, first)
    for what, question in (("a choice", {"type": "choice", "instructions": RIGHT, "choices": [{"value": "a"}, {"value": "b"}]}),
                           ("a score", {"type": "score", "instructions": RIGHT, "levels": [{"label": "a"}, {"label": "b"}]}),
                           ("another question", {"type": "predicate", "instructions": "Is the answer polite?"})):
        try:
            seen = client.decisions.create(model="drr", input=PAIR, questions=[{"type": "predicate", "instructions": RIGHT}, question])
        except openai.BadRequestError as error:
            seen = error.body
        check(f"openai decisions: no made-up answer to {what}", is_error({"error": seen}) and (seen["param"] or "").startswith("questions[1]"), seen)


async def check_openai_async(served):
    import openai
    async with openai.AsyncOpenAI(base_url=served.url, api_key=KEY, max_retries=0, timeout=60) as client:
        names = [nonce() for _ in range(24)]

        async def plain(name):
            said = await client.chat.completions.create(model="drr", messages=ask(name), extra_body={"drr": {"threshold": 0}})
            return said.choices[0].message.content

        async def stream(name):
            text = ""
            async for chunk in await client.chat.completions.create(model="drr", messages=ask(name), stream=True):
                text += chunk.choices[0].delta.content or "" if chunk.choices else ""
            return text

        seen = await asyncio.gather(*((stream if i % 2 else plain)(name) for i, name in enumerate(names)))
        check("openai async: 24 at once, half of them streams, each its own answer", seen == [answer(name) for name in names],
              [(a, b) for a, b in zip(seen, names) if a != answer(b)][:2])


# ---- curl

def documented_curls():
    """The curl commands of the README and the manual, as a reader pastes them."""
    for name in ("README.md", os.path.join("packaging", "drr-serve.1")):
        with open(os.path.join(ROOT, name)) as file:
            text = file.read().replace("\\-", "-").replace("\\(aq", "'")
        yield name, re.findall(r"^ *(curl [^'\n]*-d '[^']*')$", text, re.M)


def check_documents(bare):
    def pasted(*words):
        words = [word.replace("127.0.0.1:8377", f"127.0.0.1:{bare.port}") for word in words]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
        return done.stdout + done.stderr

    for name, commands in documented_curls():
        said = [pasted("sh", "-c", command) for command in commands]
        check(f"curl: what {name} says is answered as it is pasted", said and all('"chat.completion"' in one for one in said), commands, said)
    with open(os.path.join(ROOT, "README.md")) as file:
        snippet = re.search(r"^    from openai .*?(?=^$)", file.read(), re.M | re.S)[0]
    said = pasted(sys.executable, "-c", textwrap.dedent(snippet))
    check("openai: so is README.md's Python", re.search(r"^(accept|reject) [01]\.?\d*$", said, re.M), said)


def check_curl(served):
    def curl(*words, path="/chat/completions"):
        done = subprocess.run(["curl", "-sS", "--max-time", "60", "-H", f"Authorization: Bearer {KEY}", "-H",
                               "Content-Type: application/json", *words, served.url + path], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, env=environment())
        return done.returncode, done.stdout, done.stderr

    import json
    asked = nonce()
    body = json.dumps(chat(f"What of {asked}?", drr={"threshold": 0}))
    code, out, _ = curl("-d", body)
    check("curl: an answer", code == 0 and json.loads(out)["choices"][0]["message"]["content"] == answer(asked), out)
    code, out, _ = curl("-N", "-i", "-d", json.dumps(chat(f"What of {asked}?", stream=True)))
    head, _, text = out.partition("\n\n") if "\r\n\r\n" not in out else out.partition("\r\n\r\n")
    seen = events(text)
    check("curl -N: server-sent events with their headers, and [DONE]", code == 0 and "text/event-stream" in head.lower() and
          "no-cache" in head.lower() and "x-accel-buffering: no" in head.lower() and seen[-1] == "[DONE]" and
          all(json.loads(e)["object"] == "chat.completion.chunk" for e in seen[:-1]), out[:800])
    code, out, _ = curl("--http1.0", "-d", body)
    check("curl: HTTP/1.0 too", code == 0 and json.loads(out)["choices"][0]["message"]["content"] == answer(asked), out)
    long = chat(f"What of {asked}? " + "and so on " * 20000, drr={"threshold": 0})
    with open(at("long.json"), "w") as file:
        json.dump(long, file)
    code, out, err = curl("-H", "Expect: 100-continue", "-d", "@" + at("long.json"))
    check("curl: 200 KB with Expect: 100-continue", code == 0 and '"chat.completion"' in out, out[:400], err)
    code, out, _ = curl("-d", '{"model": "drr", "messages": ')
    check("curl: half a JSON is an error of OpenAI's form", code == 0 and is_error(json.loads(out), "invalid_request_error"), out)
    code, out, _ = curl("--compressed", "-d", body)
    check("curl: --compressed does no harm", code == 0 and '"chat.completion"' in out, out[:400])
    code, out, _ = curl("-X", "GET", path="/models")
    check("curl: GET /v1/models", code == 0 and json.loads(out)["object"] == "list", out)


# ---- LiteLLM

def check_litellm(served):
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # nothing is fetched
    import litellm
    litellm.telemetry, litellm.suppress_debug_info = False, True
    to = {"api_base": served.url, "api_key": KEY}
    asked = nonce()
    said = litellm.completion(model="openai/drr", messages=ask(asked), extra_body={"drr": {"threshold": 0}}, **to)
    check("LiteLLM: an answer", said.choices[0].message.content == answer(asked) and said.usage.prompt_tokens == 50, said)
    asked = nonce()
    text = "".join(c.choices[0].delta.content or "" for c in litellm.completion(model="openai/drr", messages=ask(asked), stream=True, **to))
    check("LiteLLM: a stream", text == answer(asked), text)
    try:
        litellm.completion(model="openai/drr", messages=ask("x"), api_base=served.url, api_key="wrong", num_retries=0)
        seen = None
    except litellm.AuthenticationError as error:
        seen = error
    check("LiteLLM: a wrong key is its AuthenticationError", seen is not None, seen)
    got = litellm.decisions(model="openai/drr", input=PAIR, questions=[
        {"type": "predicate", "name": "right", "instructions": RIGHT}], **to)
    check("LiteLLM decisions: a probability", got.answers[0].type == "predicate" and got.answers[0].name == "right" and
          0 <= got.answers[0].probability <= 1, got)
    state = {"question": "What is two and two?", "answer": "Two and two are four, so 4."}
    one = litellm.systemone(model="hosted_vllm/drr", state=state, questions={"right": {"type": "noul", "instructions": RIGHT}}, **to)
    check("LiteLLM systemone: the same probability, as `noul`", abs(one.answers["right"].noul - got.answers[0].probability) < 1e-4 and
          one.usage.input_tokens > 0, one, got)
    try:
        seen = litellm.systemone(model="hosted_vllm/drr", state=state, questions={
            "which": {"type": "choice", "instructions": RIGHT, "criteria": {"a": None, "b": None}}}, **to)
    except litellm.BadRequestError as error:
        seen = str(error)
    check("LiteLLM systemone: no made-up answer to a choice", isinstance(seen, str) and "choice" in seen, seen)
    ranked = litellm.rerank(model="hosted_vllm/drr", query="What is two and two?", documents=["Answer: 4", "Answer: 5", "Answer: 22"],
                            top_n=2, **to)
    scores = [row["relevance_score"] for row in ranked.results]
    check("LiteLLM rerank: the best two, best first", len(scores) == 2 and scores == sorted(scores, reverse=True) and
          {row["index"] for row in ranked.results} <= {0, 1, 2}, ranked)


# ---- upstreams

def check_llama_server(critic):
    prefix = subprocess.run([os.path.join(ROOT, "tools", "setup"), "--offline", "prefix"], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True).stdout.strip()
    program = os.environ.get("DRR_LLAMA_SERVER") or os.path.join(prefix, "build", "bin", "llama-server")
    if not os.access(program, os.X_OK) or not os.path.exists(SMALL):
        return print("skip - llama-server as the upstream: tools/setup llama-tools and models smollm2-135m make what it takes")
    port = free_port()
    with Process([program, "-m", SMALL, "--host", "127.0.0.1", "--port", str(port), "-np", "4", "-c", "4096"], at("llama.log"),
                 stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL):
        for _ in range(600):
            try:
                if request(port, "GET", "/health", seconds=5)[0] == 200:
                    break
            except OSError:
                pass
            time.sleep(.1)
        with Served(at("before-llama.log"), "--upstream", f"http://127.0.0.1:{port}/v1", "--critic", critic, seconds=90) as served:
            check_model(served, "llama-server as the upstream")
            code, _, seen = request(served.port, "POST", "/v1/completions", {"model": "m", "prompt": "One, two,", "max_tokens": 4})
            check("llama-server's /v1/completions through drr", code == 200 and seen["choices"][0]["text"], seen)
            code, _, seen = request(served.port, "POST", "/v1/responses", {"model": "m", "input": "Hi", "max_output_tokens": 4})
            check("llama-server's /v1/responses through drr, or its own refusal", code == 200 and seen.get("object") == "response" or
                  is_error(seen) or "error" in seen, code, seen)


def check_embedded(critic):
    if not os.path.exists(SMALL):
        return print("skip - the embedded model: tools/setup models smollm2-135m fetches it")
    with Served(at("embedded.log"), "--reasoner", "smollm2-135m", "--critic", critic, seconds=90) as served:
        check_model(served, "the embedded model")


def check_model(served, name):
    """A real model writes what it likes; what is checked is the machinery around it."""
    code, _, said = request(served.port, "POST", "/v1/chat/completions", chat(
        "Is the sun hot? End with 'Answer: yes' or 'Answer: no'.", max_tokens=32, drr={"threshold": 0, "max_turns": 2}), seconds=120)
    drr = said.get("drr", {}) if isinstance(said, dict) else {}
    check(f"{name}: judged", code == 200 and len(drr["turns"]) >= 1 and isinstance(drr["p_correct"], float) and
          said["choices"][0]["message"]["content"] and said["usage"]["completion_tokens"] > 0, code, said)
    code, _, text = request(served.port, "POST", "/v1/chat/completions", chat("Name a colour.", max_tokens=16, stream=True), seconds=120,
                            parse=False)
    check(f"{name}: streamed", code == 200 and events(text)[-1] == "[DONE]", code, text[:600])


def check_second_drr(served, critic):
    """drr before drr before the upstream."""
    with Served(at("outer.log"), "--upstream", served.url, "--critic", critic, DRR_UPSTREAM_API_KEY=KEY) as outer:
        asked = nonce()
        code, _, said = request(outer.port, "POST", "/v1/chat/completions", chat(f"What of {asked}?", drr={"threshold": 0}))
        check("a second drr as the upstream: the answer, and one ledger, the outer's", code == 200 and
              said["choices"][0]["message"]["content"] == answer(asked) and said["drr"]["verdict"] == "accept" and
              len(said["drr"]["turns"]) == 1, said)
        code, _, text = request(outer.port, "POST", "/v1/chat/completions", chat(f"What of {asked}?", stream=True), parse=False)
        check("a second drr as the upstream: streamed", code == 200 and events(text)[-1] == "[DONE]" and f"{asked}" in text, text[:600])


def check_no_critic(upstream):
    with Served(at("bare.log"), "--upstream", upstream.url) as bare:
        asked = nonce()
        code, _, said = request(bare.port, "POST", "/v1/chat/completions", chat(f"What of {asked}?"))
        drr = said.get("drr", {}) if isinstance(said, dict) else {}
        check("without a critic agreement judges, and the response says so and what to do", code == 200 and
              asked in said["choices"][0]["message"]["content"] and "drr train" in str(drr), said)
        for path, body in (("/v1/decisions", {"model": "drr", "input": "x", "questions": [{"type": "predicate", "instructions": "y"}]}),
                           ("/v1/rerank", {"query": "x", "documents": ["y"]})):
            code, _, seen = request(bare.port, "POST", path, body)
            check(f"and {path} says that there is none", code == 501 and is_error(seen, "not_supported_error"), code, seen)
        check_documents(bare)


def main():
    why = missing()
    python, no_python = client_python()
    if why or no_python:
        print(why or no_python)
        return 77
    if os.path.realpath(sys.prefix) != os.path.realpath(os.path.dirname(os.path.dirname(python))):
        shutil.rmtree(WORK, ignore_errors=True)
        os.execv(python, [python, os.path.abspath(__file__)])
    try:
        critic = make_critic(WORK)
        with Upstream(at("upstream.log")) as upstream:
            with Served(at("served.log"), "--upstream", upstream.url, "--critic", critic, "--api-key", KEY, "--metrics",
                        DRR_UPSTREAM_API_KEY=UPSTREAM_KEY) as served:
                check_openai(served)
                asyncio.run(check_openai_async(served))
                check_curl(served)
                check_litellm(served)
                check("the client's key stays here, the upstream got its own", upstream.stats()["authorization"] == f"Bearer {UPSTREAM_KEY}",
                      upstream.stats())
                check_second_drr(served, critic)
                check("no key in the log", KEY not in served.said() and UPSTREAM_KEY not in served.said(), served.said()[-600:])
                check("SIGTERM ends it well", served.stop() == 0, served.said()[-600:])
            check_no_critic(upstream)
        check_embedded(critic)
        check_llama_server(critic)
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    return 1 if failures() else 0


if __name__ == "__main__":
    sys.exit(main())
