#!/usr/bin/env python3
"""A threshold that was tested for a target error, served: asked for by a request, kept to, told with the answer, and not where what
goes on is not what was tested. And /props tells the threshold that requests meet."""
import os
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from checks import check, failures  # noqa: E402
import test_serve_chat as chat  # noqa: E402


def test_promise():
    critic = chat.make_critic("promise.gguf", "--target-error", "0.4", "--delta", "0.4")
    up = chat.Upstream()
    s = chat.Serve("--upstream", up.url, "--critic", critic, threshold=False)
    promises = s.ask_get("/props")[1]["critic"]["guarantees"]
    check("a critic that promises is served", promises and promises[0]["target_error"] == 0.4, s.text())
    s.stop()
    made = promises[-1]
    s = chat.Serve("--upstream", up.url, "--critic", critic, "--max-turns", made["turns"], threshold=False)
    told = s.ask_get("/props")[1]["threshold"]
    r = s.chat("Is it true that ice is cold? plan:g plain")
    check("the threshold of /props is the one that requests meet", abs(told - r.drr["threshold"]) < 1e-5 and
          abs(told - made["threshold"]) < 1e-5 and "guarantee" not in r.drr, told, made, r)
    r = s.chat("Is it true that ice is cold? plan:g promised", drr={"target_error": 0.4})
    check("a promise is kept to, and told", r.status == 200 and abs(r.drr["threshold"] - made["threshold"]) < 1e-5 and
          r.drr["guarantee"] == {"target_error": 0.4, "delta": 0.4, "turns": made["turns"]}, r)
    for field, value in (("deadline_ms", 60000), ("shadow", True)):
        r = s.chat(f"Is it true that ice is cold? plan:g {field}", drr={"target_error": 0.4, field: value})
        check(f"with {field} nothing is promised", r.status == 200 and "guarantee" not in r.drr and
              abs(r.drr["threshold"] - made["threshold"]) < 1e-5, r)
    s.stop()
    up.stop()


if not os.access(chat.DRR, os.X_OK):
    print(f"there is no command at {chat.DRR}: run make build")
    sys.exit(77)
try:
    test_promise()
finally:
    shutil.rmtree(chat.WORK, ignore_errors=True)
sys.exit(1 if failures() else 0)
