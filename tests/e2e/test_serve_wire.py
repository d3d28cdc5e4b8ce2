#!/usr/bin/env python3
"""What leaves drr serve, to the letter of ../shared/wire.md where the other scripts about the server do not look: lists of models,
headers of streams that the upstream names in its own way, errors that come after a stream has begun, and shadow mode, in which an
answer is the upstream's whatever the loop's bounds are."""
import json
import os
import re
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from checks import check, failures  # noqa: E402
from fault_server import KEY  # noqa: E402
from planned_server import BAD, GOOD, Upstream  # noqa: E402
from serving import Served, chat, events, free_port, is_error, make_critic, missing, request  # noqa: E402

WORK = tempfile.mkdtemp(prefix="drr-wire.")
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]


def served(up, *words):
    return Served(os.path.join(WORK, "log"), "--upstream", up.url, *words, DRR_UPSTREAM_API_KEY=KEY)


def ask(server, question, **more):
    """(status, headers, body, events): of a stream its events, parsed, but for [DONE]."""
    status, headers, body = request(server.port, "POST", "/v1/chat/completions", chat(question, **more), parse=not more.get("stream"))
    found = [json.loads(data) for data in events(body) if data != "[DONE]"] if isinstance(body, str) else []
    return status, headers, body, found


def joined(found, field):
    return "".join(choice["delta"].get(field) or "" for event in found for choice in event.get("choices", []))


def models_have_all_that_clients_read(up, critic):
    with served(up, "--metrics") as server:
        status, _, models = request(server.port, "GET", "/v1/models")
        wanted = {"id": str, "object": str, "created": int, "owned_by": str}
        check("each model has its id, object, time and owner", status == 200 and len(models["data"]) == 2 and all(
            isinstance(model.get(name), kind) for model in models["data"] for name, kind in wanted.items()), models)
        status, _, model = request(server.port, "GET", "/v1/models/drr-test-model")
        check("so has one of them alone", status == 200 and set(wanted) <= set(model), model)
    with Served(os.path.join(WORK, "log"), "--upstream", up.url, "--metrics", DRR_UPSTREAM_API_KEY="another-key") as server:
        status = request(server.port, "GET", "/v1/models")[0]
        check("a list that cannot be had is no failed request of the loop", status == 502 and server.metric("drr_requests_total") == 0, status)


def the_only_model_needs_no_name(up, critic):
    with Served(os.path.join(WORK, "log"), "--upstream", f"http://127.0.0.1:{free_port()}/v1", "--samples", "1", "--retries", "0",
                DRR_UPSTREAM_API_KEY=KEY) as server:
        port = int(server.process.args[server.process.args.index("--upstream") + 1].split(":")[2].split("/")[0])
        check("an upstream that is not there yet: 502", ask(server, "Is it true? plan:g")[0] == 502)
        for models in (("late-model",), ("other-model",), ("one", "two")):
            late = Upstream(port=port, models=models)
            if models[0] == "other-model":
                request(server.port, "GET", "/v1/models")
            status, _, body, _ = ask(server, f"Is it true? plan:g {models}")
            asked = late.bodies[-1].get("model") if late.bodies else "nobody"
            late.stop()
            if len(models) == 1:
                check(f"{models[0]}, which came after the server, is asked by its name", status == 200 and asked == models[0], status, body, asked)
            else:
                check("of several none is chosen, but the one that was the only one", status == 200 and asked == "other-model", status, asked)


def a_clients_key_is_forwarded_where_that_is_wanted(up, critic):
    theirs, ours, long = "Bearer sk-the-clients-own", "a-key-of-this-server", "Bearer " + "x" * 3000
    other = "another-key-of-it"
    up.key, key = None, up.key
    asked = {"messages": [{"role": "user", "content": "Is it true? plan:g"}], "model": "test-model"}

    def sent(server, path="/v1/chat/completions", **headers):
        status = request(server.port, "POST", path, asked, {name.replace("_", "-"): text for name, text in headers.items()})[0]
        seen = up.seen[-1][0] if "chat" in path else up.passed[-1][2]
        return status, seen.get("Authorization"), seen.get("x-api-key")

    own = f"Bearer {KEY}"
    with served(up, "--samples", "1", "--forward-key") as server:
        check("--forward-key: a client's key goes to the upstream", sent(server, Authorization=theirs) == (200, theirs, None))
        check("a long one too", sent(server, Authorization=long) == (200, long, None))
        check("who has none uses the server's", sent(server) == (200, own, None))
        check("on routes that are passed on too", sent(server, "/v1/embeddings", Authorization=theirs) == (200, theirs, None))
        check("and in Anthropic's header", sent(server, "/v1/messages", x_api_key="sk-ant") == (200, None, "sk-ant"))
        up.key = "another"
        status, _, body = request(server.port, "POST", "/v1/chat/completions", asked, {"Authorization": theirs})
        check("what the upstream says of it the client hears", status == 401 and "Incorrect API key" in str(body), status, body)
        check("and not what it says of the server's", request(server.port, "POST", "/v1/chat/completions", asked)[0] == 502)
        up.key = None
    with Served(os.path.join(WORK, "log"), "--upstream", up.url, "--samples", "1", "--forward-key", DRR_UPSTREAM_API_KEY=KEY,
                DRR_API_KEY=f"{ours},{other}") as server:
        check("what opens the server does not leave it", sent(server, Authorization=f"Bearer {ours}") == (200, own, None) and
              sent(server, "/v1/messages", x_api_key=ours) == (200, own, KEY))
        check("beside it the upstream's does", sent(server, Authorization=theirs, x_api_key=ours) == (200, theirs, None))
        for what, shown in (("shown twice", {"Authorization": f"Bearer {ours}", "x_api_key": ours}),
                            ("beside another of them", {"Authorization": f"Bearer {other}", "x_api_key": ours}),
                            ("in the other order", {"Authorization": f"Bearer {ours}", "x_api_key": other}),
                            ("without a scheme", {"Authorization": ours, "x_api_key": other}),
                            ("with one too many", {"Authorization": f"bearer  {ours}", "x_api_key": f"Bearer {ours}"})):
            seen = sent(server, "/v1/embeddings", **shown), sent(server, "/v1/messages", **shown), sent(server, **shown)
            check(f"nor does any other of its keys: {what}", all(status == 200 and ours not in (str(a) + str(x)) and other not in (str(a) + str(x))
                  for status, a, x in seen), seen)
        check("and opens nothing", request(server.port, "POST", "/v1/chat/completions", asked, {"Authorization": theirs})[0] == 401)
    with served(up, "--samples", "1") as server:
        check("without --forward-key none leaves", sent(server, Authorization=theirs) == (200, own, None) and
              sent(server, "/v1/messages", x_api_key="sk-ant") == (200, own, KEY))
    up.key = key


def a_refused_key_tells_nothing_about_models(up, critic):
    up.key, key = "sk-the-clients-own", up.key
    with Served(os.path.join(WORK, "log"), "--upstream", up.url, "--samples", "1", "--forward-key") as server:
        for path, body in (("/v1/chat/completions", chat("Is it true? plan:g refused key")), ("/v1/models", None)):
            status, _, said = request(server.port, "POST" if body else "GET", path, body, {"Authorization": "Bearer sk-a-wrong-one"})
            check(f"a wrong key is refused by the upstream: {path}", status == 401, status, said)
        good = {"Authorization": f"Bearer {up.key}"}
        status, _, said = request(server.port, "POST", "/v1/chat/completions", chat("Is it true? plan:g good key"), good)
        check("the only model needs no name after that either", status == 200 and up.bodies[-1].get("model") == "test-model", said, up.bodies[-1])
    up.key = key


def max_tokens_binds_without_usage_too(up, critic):
    up.counts = False
    with served(up, "--critic", critic, "--threshold", "1", "--max-turns", "4", "--max-tokens", "30", "--metrics") as server:
        up.bodies.clear()
        _, _, body, _ = ask(server, "Is it true? plan:bbbb uncounted")
        turns, limits = body["drr"]["turns"], [sent["max_completion_tokens"] for sent in up.bodies]
        n = -(-len(BAD) // 4)
        check("an upstream that counts no tokens is bounded by what they seem to be", body["drr"]["ended_by"] == "tokens" and
              [turn["completion_tokens"] for turn in turns] == [n, n] and limits == [30, 30 - n], body["drr"], limits)
        check("which is said to be an estimate, wherever it is told", all(turn["estimated"] is True for turn in turns) and
              body["drr"]["usage"] == "all turns, estimated" and body["usage"]["completion_tokens"] == 2 * n and
              body["usage"]["prompt_tokens"] > 0, body)
        check("and not counted as the upstream's", server.metric("drr_upstream_tokens_total") == 0)
        _, _, _, found = ask(server, "Is it true? plan:b streamed", stream=True, stream_options={"include_usage": True},
                             drr={"stream_mode": "live", "max_turns": 1})
        account = next(event["drr"] for event in reversed(found) if "verdict" in event.get("drr", {}))
        check("a stream has no zeros either", found[-1]["usage"]["completion_tokens"] >= n and account["usage"] == "all turns, estimated",
              found[-2:])
        _, _, body, _ = ask(server, "Is it true? plan:g once", drr={"judge": False})
        check("one answer alone is as the upstream sent it", "usage" not in body and body["drr"]["turns"][0]["estimated"], body)
    up.counts = True
    with served(up, "--critic", critic, "--threshold", "0", "--max-tokens", "1000") as server:
        for more, wanted in (({"max_tokens": 50, "max_completion_tokens": None}, (None, 50, None)), ({"max_tokens": 5000}, (None, 1000, None)),
                             ({"max_tokens": None}, (1000, None, None)), ({}, (1000, None, None)), ({"max_tokens": -1}, (None, 1000, None)),
                             ({"max_completion_tokens": 20, "max_tokens": 5000, "n_predict": -1}, (20, 1000, 1000)),
                             ({"n_predict": 7}, (1000, None, 7))):
            _, _, body, _ = ask(server, f"Is it true? plan:g {more}", **more)
            sent = tuple(up.bodies[-1].get(name) for name in ("max_completion_tokens", "max_tokens", "n_predict"))
            check(f"of {more} and 1000 the smaller is asked for", sent == wanted and "estimated" not in body["drr"]["turns"][0] and
                  body["drr"]["usage"] == "all turns", sent, body["drr"])


def streams_of_any_charset_are_not_kept_back(up, critic):
    with served(up) as server:
        _, headers, _, found = ask(server, "Is it true? plan:g", tools=TOOLS, stream=True)
        check("a stream that names its charset has a stream's headers", "charset" in headers["content-type"] and joined(found, "content") ==
              GOOD and (headers.get("cache-control"), headers.get("x-accel-buffering")) == ("no-cache", "no"), headers)


def errors_come_whole_after_comments_too(up, critic):
    with served(up, "--critic", critic, "--threshold", "0", "--keepalive", "1", "--metrics") as server:
        status, headers, body, found = ask(server, "Is it true? plan:g slow:1.6", tools=TOOLS, stream=True)
        check("comments come before a stream that is passed through, and a verdict before them", body.startswith(":\n\n") and
              headers.get("x-drr-verdict") == "passthrough" and joined(found, "content") == GOOD and body.endswith("data: [DONE]\n\n"),
              headers, body)
        for what, more in (("one that is passed through", {"tools": TOOLS}), ("one that is held", {})):
            before = server.metric("drr_requests_total", outcome="error")
            status, headers, body, found = ask(server, "Is it true? slow:1.6 refused", stream=True, **more)
            error = found[-1].get("error", {}) if found else {}
            check(f"what the upstream refuses after comments is an event in its words: {what}", status == 200 and
                  body.startswith(":\n\n") and is_error(found[-1] if found else None) and error["message"] == "there is no such model" and
                  (error["param"], error["code"]) == ("model", "model_not_found"), body)
            check("and counted as an error", server.metric("drr_requests_total", outcome="error") == before + 1)


def shadow_leaves_the_answer_alone(up, critic):
    with served(up, "--critic", critic, "--threshold", "1", "--shadow", "--max-tokens", "4", "--deadline-ms", "400") as server:
        status, _, body, _ = ask(server, "Is it true? plan:b one", extra=1)
        sent = up.bodies[-1]
        check("shadow: the upstream is asked as the client asked", status == 200 and sent == {**chat("Is it true? plan:b one", extra=1),
              "model": "test-model"}, sent)
        for stream in (False, True):
            status, _, body, found = ask(server, f"Is it true? plan:b slow:0.9 late {stream}", stream=stream)
            text = joined(found, "content") if stream else body["choices"][0]["message"]["content"]
            account = next((event["drr"] for event in reversed(found) if "drr" in event), None) if stream else body["drr"]
            check(f"shadow: an answer after the deadline comes all the same, unjudged (stream: {stream})", status == 200 and text == BAD and
                  (account["verdict"], account["reason"]) == ("passthrough", "deadline"), body)
    with served(up, "--critic", critic, "--threshold", "1", "--shadow") as server:
        _, _, body, found = ask(server, "Is it true? plan:b probable", stream=True, logprobs=True)
        rows = [row for event in found for choice in event["choices"] if choice.get("logprobs") for row in choice["logprobs"]["content"]]
        check("shadow: a stream keeps its log-probabilities", "".join(row["token"] for row in rows) == BAD and len(rows) ==
              len(re.findall(r"\S+\s*", BAD)), body)


def one_sample_is_said_as_documented(up, critic):
    with served(up, "--samples", "1") as server:
        _, _, body, _ = ask(server, "Is it true? plan:g")
        account = body["drr"]
        check("one sample is a reason, and what ended it is the end of its turns", (account["verdict"], account["reason"],
              account["ended_by"]) == ("passthrough", "one sample", "turns"), account)


def main():
    why = missing()
    if why:
        print(why)
        return 77
    up = Upstream()
    try:
        critic = make_critic(os.path.join(WORK, "critic"))
        for test in (models_have_all_that_clients_read, the_only_model_needs_no_name, a_clients_key_is_forwarded_where_that_is_wanted,
                     a_refused_key_tells_nothing_about_models, max_tokens_binds_without_usage_too,
                     streams_of_any_charset_are_not_kept_back, errors_come_whole_after_comments_too,
                     shadow_leaves_the_answer_alone, one_sample_is_said_as_documented):
            test(up, critic)
    finally:
        up.stop()
        shutil.rmtree(WORK, ignore_errors=True)
    return 1 if failures() else 0


if __name__ == "__main__":
    sys.exit(main())
