#!/usr/bin/env python3
"""The page of `drr serve` in headless Chromium: asked by mouse and by keyboard alone, read, its threshold moved, in light, dark and
on a small screen; an answer that wants to be a script; a server with a key; and what --record keeps of what was asked. The model
is SmolLM2-135M, judged by agreement and by a tiny critic: what is checked is the page and not what they say."""
import http.server
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
import chromium  # noqa: E402
from checks import CACHE, DRR, check, failures  # noqa: E402
from serving import Served, environment, make_critic, request  # noqa: E402

SMALL = os.path.join(CACHE, "models", "smollm2-135m.gguf")
KEY = "page-key-77"
WORK = tempfile.mkdtemp(prefix="drr-e2e.")
HOSTILE = "<script>window.pwned = 1</script><img src=x onerror=\"window.pwned = 2\"><svg onload='window.pwned = 3'> 5\nAnswer: 5"
DONE = "document.getElementById('stop').disabled && (!document.getElementById('answer').hidden || document.querySelector('#trouble .alert'))"


def at(name):
    return os.path.join(WORK, name)


class Liar(http.server.BaseHTTPRequestHandler):
    """An upstream whose answers want to run in the page."""

    def log_message(self, *_):
        pass

    def reply(self, kind, text):
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.reply("application/json", json.dumps({"object": "list", "data": [{"id": "<img src=x onerror='window.pwned = 4'>", "object": "model"}]}))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        head = {"id": "x", "created": 1, "model": "<b onclick=alert(1)>m</b>"}
        usage = {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}
        if not body.get("stream"):
            self.reply("application/json", json.dumps({**head, "object": "chat.completion", "usage": usage, "choices": [
                {"index": 0, "message": {"role": "assistant", "content": HOSTILE}, "finish_reason": "stop"}]}))
            return
        chunks = [{**head, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": HOSTILE[i:i + 7]}}]}
                  for i in range(0, len(HOSTILE), 7)]
        chunks += [{**head, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
                   {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}]
        self.reply("text/event-stream", "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n")


def pixels(png):
    """Different colours of a picture, roughly: the bytes of its rows, four apart."""
    data, at_byte = b"", 8
    while at_byte < len(png):
        size, kind = struct.unpack(">I4s", png[at_byte:at_byte + 8])
        data += png[at_byte + 8:at_byte + 8 + size] if kind == b"IDAT" else b""
        at_byte += size + 12
    return zlib.decompress(data)


def contrast(page):
    """The smallest contrast of text on its background, by WCAG's formula, and where."""
    return page.value("""(() => {
        const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
        const light = c => { const [r, g, b] = c.map(v => { v /= 255; return v <= .03928 ? v / 12.92 : Math.pow((v + .055) / 1.055, 2.4); });
                             return .2126 * r + .7152 * g + .0722 * b; };
        let least = [99, ''];
        for (const e of document.querySelectorAll('h1,h2,h3,p,label,button,summary,span,caption,th,td,b,select,input,.verdict')) {
            if (!e.offsetParent || !e.innerText && !e.value || e.closest('.hidden') || e.disabled) continue;
            let under = e, back = [0, 0, 0, 0];
            while (under && (back.length > 3 && back[3] === 0)) { back = parse(getComputedStyle(under).backgroundColor); under = under.parentElement; }
            const a = light(parse(getComputedStyle(e).color).slice(0, 3)), b = light(back.slice(0, 3));
            const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
            if (ratio < least[0]) least = [ratio, e.tagName + '.' + e.className + ': ' + (e.innerText || '').slice(0, 40)];
        }
        return least;
    })()""")


def traces(served, **headers):
    return request(served.port, "GET", "/drr/traces", headers=headers)[2]["data"]


# ---- asking

def check_mouse(page, served):
    check("the page says what the server is", page.wait("/smollm2/.test(document.getElementById('server').innerText)"), page.text("#server"))
    check("whatever can be used has a name for a screen reader", page.nameless() == [], page.nameless())
    page.click("#question")
    page.type("How many legs has a spider?")
    page.click("#policy summary")
    page.click("#max_turns")
    page.type("2")
    page.click("#max_tokens")
    page.type("24")
    page.click("#go")
    page.wait(DONE, 60)
    check("a click asks, and turns, a verdict and an answer arrive", page.text("#trouble") == "" and page.text("#answer-text").strip() != "" and
          page.text("#verdict") != "" and page.text("#turns .said").strip() != "", page.text("#ask"))
    seen = traces(served)
    drawn = page.value("document.querySelectorAll('#turns .turn').length")
    check("as many turns as the server made, each with its verdict", len(seen) == 1 and drawn == len(seen[0]["turns"]) > 0 and
          page.value("[...document.querySelectorAll('#turns .verdict')].every(e => /accepted|rejected|not judged/.test(e.innerText))"),
          drawn, seen)
    check("and the score of each", all(turn["p_correct"] is None or f"P(correct) {turn['p_correct']:.3f}" in page.text("#turns") for turn in seen[0]["turns"]),
          page.text("#turns"))
    check("what is announced is the end, in words", "Answer" in page.text("#news"), page.text("#news"))
    check("the request stands among the recent ones", page.wait("/spider/.test(document.getElementById('rows').innerText)"), page.text("#recent"))
    page.click("#rows button")
    check("and opens to its turns", page.value("document.querySelector('#rows button').getAttribute('aria-expanded')") == "true" and
          page.wait("document.querySelectorAll('#rows .turn').length > 0"), page.text("#rows"))


def check_keyboard(page, served):
    page.go(served.root + "/")
    page.wait("document.querySelectorAll('#rows button').length > 0")
    page.press("Tab")
    first = page.value("document.activeElement.className")
    page.press("Enter")
    page.type("Is water wet?")
    check("the first Tab leads past everything to the question", first == "skip" and page.value("document.getElementById('question').value") == "Is water wet?",
          first, page.focus())
    reached = page.tab_to("live")
    if not reached:  # the policy is closed: its summary comes first
        page.click("#question")
    page.value("document.getElementById('policy').open = false")
    page.click("#question")
    page.press("Tab")
    on_summary = page.value("document.activeElement.tagName")
    page.press("Enter")
    check("the policy opens by keyboard", on_summary == "SUMMARY" and page.value("document.getElementById('policy').open"), on_summary)
    check("its fields are reached", page.tab_to("max_turns"), page.focus())
    page.type("1")
    check("and the tokens", page.tab_to("max_tokens"), page.focus())
    page.type("16")
    check("so is the button", page.tab_to("go"), page.focus())
    page.press("Enter")
    page.wait(DONE, 60)
    check("Enter on it asks", page.text("#answer-text").strip() != "" and page.text("#trouble") == "", page.text("#ask"))
    check("what has the focus is seen to have it", page.tab_to("slider") and
          page.value("getComputedStyle(document.activeElement).outlineStyle !== 'none'"), page.focus())
    before = page.text("#slid")
    page.press("Home")
    page.press("ArrowRight", 3)
    check("arrows move the threshold", page.text("#slid") == "0.03" != before, page.text("#slid"))
    check("a recent request opens with Enter", page.tab_to("row"), page.focus())
    page.press("Enter")
    check("and tells so", page.value("document.activeElement.getAttribute('aria-expanded')") == "true", page.focus())
    page.click("#question")
    page.value("document.getElementById('question').value = 'Two and two?'")
    page.press("Enter", control=True)
    page.wait("!document.getElementById('stop').disabled", 5)
    page.wait(DONE, 60)
    check("Ctrl+Enter asks too", any("Two and two?" in str(trace["question"]) for trace in traces(served)), traces(served)[-1:])


def check_threshold(page, served, critic):
    page.go(served.root + "/")
    page.wait("document.querySelectorAll('#rows button').length > 0")
    if critic:
        page.wait("!document.getElementById('source-line').hidden")
        scores = request(served.port, "GET", "/props")[2]["critic"]["dev_scores"]
        middle = sorted(scores["p_correct"])[len(scores["p_correct"]) // 2]
        page.value(f"(s => {{ s.step = 'any'; s.value = {middle}; s.dispatchEvent(new Event('input')); }})(document.getElementById('slider'))")
        share, risk = int(page.text("#coverage").split()[0]), float(page.text("#risk").split()[0])
        above = [p for p in scores["p_correct"] if p >= middle]
        check("of the critic's held-out answers, half lie above the middle one", str(scores["n"]) in page.text("#basis") and 45 <= share <= 55,
              share, page.text("#basis"))
        check("and their risk is what the critic gives them", abs(risk - 100 * (1 - sum(above) / len(above))) < 3, risk, above)
        page.value("(s => { s.value = 'recent'; s.dispatchEvent(new Event('change')); })(document.getElementById('source'))")
    judged = [[turn["p_correct"] for turn in trace["turns"] if turn["p_correct"] is not None] for trace in traces(served)]
    judged = [scores for scores in judged if scores]
    wrong = []
    for threshold in (0, .2, .5, .7, 1):
        page.value(f"(s => {{ s.step = 'any'; s.value = {threshold}; s.dispatchEvent(new Event('input')); }})(document.getElementById('slider'))")
        taken = [next(p for p in scores if p >= threshold) for scores in judged if max(scores) >= threshold]
        coverage = f"{100 * len(taken) / len(judged):.0f} %"
        risk = 100 * sum(1 - p for p in taken) / len(taken) if taken else None
        shown = page.text("#risk").split()[0]
        if page.text("#coverage").split("\n")[0].strip() != coverage or (shown != "none" if risk is None else abs(float(shown) - risk) > .11):
            wrong.append((threshold, page.text("#coverage"), coverage, shown, risk))
    check("coverage and risk of the recent requests are theirs, at each threshold", judged and not wrong, wrong, judged)
    check("and both are drawn", page.value("document.querySelectorAll('#plot polyline').length") == 2)
    page.click("#take")
    check("the threshold can be taken for the next question", page.value("document.getElementById('threshold').value") == "1" and page.focus() == "question",
          page.focus())


# ---- looks

def check_looks(page, served):
    seen = {}
    for mode in ("light", "dark"):
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": mode}])
        page.go(served.root + "/")
        page.wait("document.querySelectorAll('#rows button').length > 0")
        picture = page.picture()
        back = page.value("getComputedStyle(document.body).backgroundColor")
        least = contrast(page)
        seen[mode] = (sum(map(int, re.findall(r"\d+", back)[:3])), picture)
        check(f"{mode}: there is something in the picture", len(set(pixels(picture)[::4])) > 20)
        check(f"{mode}: no text has less contrast than 4.5 to 1", least[0] >= 4.5, least)
    check("light is light, and dark is dark", seen["light"][0] > 600 and seen["dark"][0] < 200 and seen["light"][1] != seen["dark"][1])
    page.call("Emulation.setEmulatedMedia", features=[])
    page.call("Emulation.setDeviceMetricsOverride", width=320, height=640, deviceScaleFactor=2, mobile=True)
    page.go(served.root + "/")
    page.wait("document.querySelectorAll('#rows button').length > 0")
    width = page.value("document.documentElement.scrollWidth")
    check("on a small screen nothing sticks out", width <= 320, width)
    page.call("Emulation.clearDeviceMetricsOverride")


# ---- attacks

def check_hostile(browser):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    elsewhere = f"http://127.0.0.1:{server.server_address[1]}/v1"
    with Served(at("liar.log"), "--upstream", elsewhere, "--samples", "2") as served:
        page = chromium.Page(browser, served.root + "/")
        page.wait("document.getElementById('model').options.length > 1")
        page.click("#question")
        page.type(HOSTILE)
        page.click("#go")
        page.wait(DONE, 30)
        page.wait("document.querySelectorAll('#rows button').length > 0")
        page.click("#rows button")
        page.wait("document.querySelectorAll('#rows .turn').length > 0")
        shown = page.text("#answer-text"), page.text("#turns"), page.text("#rows")
        check("an answer that wants to be a script is shown as it is", all("<script>window.pwned = 1</script>" in text for text in shown), *shown)
        check("and runs nowhere", page.value("typeof window.pwned") == "undefined" and
              page.value("document.querySelectorAll('main script, main img, main b[onclick], main svg:not(#plot)').length") == 0)
        seen = page.complaints()
        check("without a complaint of the browser", seen == [], seen)
        refused = 0
        for attack in ("document.body.innerHTML = '<img src=x onerror=\"window.pwned = 5\">'", "document.write('<p>')",
                       "document.body.insertAdjacentHTML('beforeend', '<p>')", "(s => { s.textContent = 'window.pwned = 6'; document.body.append(s); })"
                       "(document.createElement('script'))", "setTimeout('window.pwned = 7', 0)"):
            try:
                page.value(attack)
            except RuntimeError:
                refused += 1
        check("markup and scripts made of text are refused by the browser itself", page.value("typeof window.pwned") == "undefined" and refused >= 4, refused)
        check("as is another host", page.value(f"fetch('{elsewhere}', {{mode: 'no-cors'}}).then(() => 'went', () => 'refused')") == "refused")
        page.complaints()
        asked = page.asked_for()
        check("the page spoke to its own server alone", asked and all(url.startswith((served.root, "data:", "about:", elsewhere)) for url in asked),
              [url for url in asked if not url.startswith(served.root)])
        page.close()
    server.shutdown()


def redact(*names):
    with open(at("drr.toml"), "w") as file:
        file.write(f"redact = {json.dumps(names)}\n")


def check_key_and_record(browser, critic):
    redact("ssn")
    with Served(at("keyed.log"), "--reasoner", "smollm2-135m", "--context", "512", "--width", "2", "--critic", critic, "--max-turns", "2", "--max-tokens",
                "24", "--record", at("served.db"), "--config", at("drr.toml"), DRR_API_KEY=KEY) as served:
        page = chromium.Page(browser, served.root + "/")
        check("a server with a key: the page asks for it", page.wait("!document.getElementById('keyform').hidden") and page.focus() == "key", page.focus())
        page.type("wrong")
        page.press("Enter")
        check("and says that a wrong one is wrong", page.wait("/does not know/.test(document.getElementById('keyhint').innerText)"), page.text("#keyform"))
        page.click("#key")
        page.type(KEY)
        page.press("Enter")
        page.wait("/critic/.test(document.getElementById('server').innerText)")
        page.click("#question")
        page.type('{"ssn": "123-45-6789", "name": "Ann"} Who is this, and is 123-45-6789 hers?')
        page.click("#go")
        page.wait(DONE, 60)
        check("with it, it asks", page.text("#answer-text").strip() != "" and page.text("#trouble") == "", page.text("#ask"))
        check("the judge is named", "critic" in page.text("#ledger"), page.text("#ledger"))
        kept = page.value(f"document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage) + document.documentElement.outerHTML.includes('{KEY}')")
        check("the key is kept nowhere in the browser", kept == "{}{}false", kept)
        headers = {"Authorization": "Bearer " + KEY}
        recorded = request(served.port, "GET", "/props", headers=headers)[2].get("recorded")
        turns = traces(served, **headers)[0]["turns"]
        check("traces want the key too", request(served.port, "GET", "/drr/traces")[0] == 401)
        page.go(served.root + "/")
        check("and is gone when the page is loaded again", page.wait("!document.getElementById('keyform').hidden"))
        page.complaints()  # of 401s
        redact("ssn", "name")
        os.kill(served.pid, signal.SIGHUP)
        end = time.monotonic() + 10
        while "fields to redact need a restart" not in served.said() and time.monotonic() < end:
            time.sleep(.05)
        check("other fields to redact are not taken from a reload in silence", "fields to redact need a restart" in served.said(), served.said()[-500:])
        served.stop()
    check("what is recorded is counted", recorded and recorded["lost"] == 0, recorded)
    done = subprocess.run([DRR, "traces", "export", at("served.db"), "--out", at("served.jsonl")], env=environment(), stderr=subprocess.PIPE, text=True)
    lines = []
    if not done.returncode:
        with open(at("served.jsonl")) as file:
            lines = [json.loads(line) for line in file]
    check("--record keeps each turn as an unlabelled trace", len(lines) == len(turns) > 0 and all(
        line["task"] == "served" and line["label"] == "unlabelled" and line["reasoner"].startswith("smollm2-135m") for line in lines), done.stderr, lines)
    check("without what is to be redacted", all("[redacted]" in line["question"] and "Ann" in line["question"] for line in lines) and
          "123-45-6789" not in json.dumps(lines), lines[:1])
    with open(at("labelled.jsonl"), "w") as file:
        file.writelines(json.dumps({**line, "label": "accept"}) + "\n" for line in lines)
    subprocess.run([DRR, "traces", "import", at("labelled.jsonl"), "--out", at("labelled.db")], env=environment(), stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    stats = subprocess.run([DRR, "traces", "stats", at("labelled.db"), "--json"], env=environment(), stdout=subprocess.PIPE, text=True)
    check("labelled, they are what a critic learns from", json.loads(stats.stdout or "{}").get("accepted") == len(lines), stats.stdout)
    with open(at("served.db"), "rb") as file:
        check("not even in the file's bytes", b"123-45-6789" not in file.read())


def main():
    for path, what in ((DRR, "run make build"), (SMALL, "tools/setup models smollm2-135m")):
        if not os.path.exists(path):
            print(f"skip - {path} is not there: {what}")
            return 77
    if not chromium.BROWSER:
        print("skip - there is no Chromium: tools/setup test-packages")
        return 77
    browser = chromium.Browser(at("browser"), at("browser.log"))
    try:
        critic = make_critic(at("critic"))
        with Served(at("agreement.log"), "--reasoner", "smollm2-135m", "--context", "512", "--width", "2", "--samples", "2", "--max-tokens", "24") as served:
            page = chromium.Page(browser, served.root + "/")
            check_mouse(page, served)
            check_threshold(page, served, critic=False)
            check_looks(page, served)
            seen = page.complaints()
            check("no script complained", seen == [], seen)
            page.close()
        with Served(at("judged.log"), "--reasoner", "smollm2-135m", "--context", "512", "--width", "2", "--critic", critic, "--max-turns", "3",
                    "--max-tokens", "40") as served:
            page = chromium.Page(browser, served.root + "/")
            check_mouse(page, served)
            check_keyboard(page, served)
            check_threshold(page, served, critic=True)
            seen = page.complaints()
            check("with a critic no script complained either", seen == [], seen)
            page.close()
        check_hostile(browser)
        check_key_and_record(browser, critic)
    finally:
        browser.close()
    return failures() > 0


if __name__ == "__main__":
    try:
        code = main()
    finally:
        if not os.environ.get("DRR_KEEP"):
            shutil.rmtree(WORK, ignore_errors=True)
    sys.exit(code)
