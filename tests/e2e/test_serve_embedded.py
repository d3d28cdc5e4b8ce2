#!/usr/bin/env python3
"""The model inside `drr serve` and clients that mean it harm: grammars that libllama cannot read, would recurse or expand without end
for, and prompts of megabytes. Each is refused alone, in words that name it, while the answer that another client is waiting for is
written to its end."""
import json
import os
import shutil
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from checks import check, failures, lacking  # noqa: E402
from serving import Served, is_error, request  # noqa: E402

WORK = tempfile.mkdtemp(prefix="drr-e2e.")
MODEL = "smollm2-135m"
UNJUDGED = {"judge": False}


def ask(server, text, seconds=60, **more):
    return request(server.port, "POST", "/v1/chat/completions",
                   {"messages": [{"role": "user", "content": text}], "drr": UNJUDGED, "max_tokens": 8, **more}, seconds=seconds)


class Other(threading.Thread):
    """A client whose answer is being written meanwhile: n tokens, whatever the model says."""

    def __init__(self, server, n):
        super().__init__(daemon=True)
        self.server, self.n, self.said = server, n, None
        self.start()
        time.sleep(.5)

    def run(self):
        try:
            self.said = ask(self.server, "Count on and on.", max_tokens=self.n, grammar='root ::= [^\\x00]{1999}', seconds=120)
        except OSError as error:
            self.said = 0, {}, str(error)

    def answered(self):
        self.join(120)
        return self.said is not None and self.said[0] == 200 and self.said[2]["usage"]["completion_tokens"] == self.n


def grammars_are_refused_alone(server):
    status, _, said = ask(server, "Is ice cold?", grammar='root ::= "yes" | "no"')
    check("a grammar is kept to", status == 200 and said["choices"][0]["message"]["content"] in ("yes", "no"), said)
    other = Other(server, 150)
    for what, grammar in (("that does not end", "root ::= ("), ("deeper than any stack", "root ::= " + "(" * 200000 + '"a"' + ")" * 200000),
                          ("deeper than wanted", "root ::= " + "(" * 65 + '"a"' + ")" * 65), ("without an end to repeat", 'root ::= "a"{5,2}'),
                          ("that begins with itself", 'root ::= root "hidden-word"'), ("without a root", 'rot ::= "hidden-word"'),
                          ("that is none", 17)):
        began = time.monotonic()
        status, _, said = ask(server, "Is ice cold?", grammar=grammar)
        check(f"a grammar {what} is refused by its name", status == 400 and is_error(said, "invalid_request_error") and
              said["error"]["param"] == "grammar" and "grammar" in said["error"]["message"] and time.monotonic() - began < 10, status, said)
    status, _, said = ask(server, "Is ice cold?", grammar="root ::= (", stream=True)
    check("in a stream too, as nothing was sent yet", status == 400 and said["error"]["param"] == "grammar", status, said)
    status, _, said = ask(server, "Is ice cold?", grammar="root ::= (", drr={"samples": 3})
    check("and where samples are compared", status == 400 and said["error"]["param"] == "grammar", status, said)
    check("the answer under way is written to its end", other.answered(), other.said)
    lines = server.said().splitlines()
    check("the log is lines of JSON, without a word of any grammar", lines and all(is_json(line) for line in lines) and
          "hidden-word" not in server.said() and "((((" not in server.said(), server.said()[-2000:])
    status, _, said = ask(server, "Is ice cold?", grammar="")
    check("an empty one is none", status == 200, said)


def long_prompts_hold_up_nobody(server):
    other = Other(server, 150)
    began = time.monotonic()
    status, _, said = ask(server, "a b, " * 800_000, drr={"samples": 3})
    seconds = time.monotonic() - began
    check("4 MB are refused before they are tokenized", status == 400 and said["error"]["type"] == "exceed_context_size_error" and
          "at least" in said["error"]["message"] and "1024" in said["error"]["message"] and seconds < 4, seconds, said)
    check("and the answer under way is written to its end", other.answered(), other.said)
    status, _, said = ask(server, "word " * 1100)
    check("what its size does not tell is counted", status == 400 and said["error"]["type"] == "exceed_context_size_error" and
          "at least" not in said["error"]["message"], said)


def is_json(line):
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def main():
    why = lacking(MODEL)
    if why:
        print(why)
        return 77
    try:
        with Served(os.path.join(WORK, "log"), "--reasoner", MODEL, "--context", "1024", seconds=120) as server:
            grammars_are_refused_alone(server)
            long_prompts_hold_up_nobody(server)
            check("and it stops at SIGTERM", server.stop() == 0, server.said()[-500:])
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    return 1 if failures() else 0


if __name__ == "__main__":
    sys.exit(main())
