"""Headless Chromium for the end-to-end scripts, driven over its own pipe (the DevTools protocol): no package beside the browser.
A Page speaks of elements by their id or a CSS selector, and clicks and types as a person does: with the mouse and the keyboard."""
import base64
import json
import os
import select
import shutil
import subprocess
import time

BROWSER = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " "), "ArrowRight": (39, ""), "ArrowLeft": (37, ""), "Home": (36, ""), "End": (35, "")}


class Browser:
    def __init__(self, folder, log):
        down, up = os.pipe(), os.pipe()

        def hand_over():  # Chromium reads 3 and writes 4
            read, write = os.dup(down[0]), os.dup(up[1])
            os.dup2(read, 3)
            os.dup2(write, 4)

        self.log = open(log, "ab")
        self.process = subprocess.Popen(
            [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe",
             "--disable-extensions", "--disable-background-networking", "--user-data-dir=" + folder, "--window-size=1100,900",
             "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "about:blank"],
            preexec_fn=hand_over, close_fds=False, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        os.close(down[0])
        os.close(up[1])
        self.write, self.read = down[1], up[0]
        self.rest, self.number, self.events = b"", 0, []

    def next(self, end):
        while b"\0" not in self.rest:
            if not select.select([self.read], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError("Chromium does not answer")
            data = os.read(self.read, 1 << 20)
            if not data:
                raise EOFError("Chromium has ended")
            self.rest += data
        text, self.rest = self.rest.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, session=None, seconds=30, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.write, data):]
        end = time.monotonic() + seconds
        while True:
            answer = self.next(end)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def close(self):
        for end in (self.write, self.read):
            os.close(end)
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Page:
    def __init__(self, browser, url):
        self.browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(domain + ".enable")
        self.call("Page.bringToFront")
        self.target = target
        self.go(url)

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)

    def own_events(self, *methods):
        """Takes them: they are told once."""
        own = [event for event in self.browser.events if event.get("sessionId") == self.session and event.get("method") in methods]
        self.browser.events = [event for event in self.browser.events if event not in own]
        return own

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def go(self, url):
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href.startsWith('http')")

    def value(self, expression):
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            details = done["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return done["result"].get("value")

    def wait(self, expression, seconds=30):
        """Until it is true; what it was last, where it never is."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            seen = self.value(expression)
            if seen:
                return seen
            time.sleep(.03)
        return self.value(expression)

    def text(self, selector):
        return self.value(f"(document.querySelector({json.dumps(selector)}) || {{}}).innerText || ''")

    def click(self, selector):
        place = self.value(f"(e => {{ e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect(); "
                           f"return [r.x + r.width / 2, r.y + r.height / 2]; }})(document.querySelector({json.dumps(selector)}))")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def press(self, key, times=1, control=False):
        code, text = KEYS[key]
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                self.call("Input.dispatchKeyEvent", type=kind, key=key, code="Space" if key == " " else key, windowsVirtualKeyCode=code,
                          modifiers=2 if control else 0, **({"text": text} if text and kind == "keyDown" and not control else {}))

    def focus(self):
        """Id of what has the focus, or its text."""
        return self.value("document.activeElement.id || document.activeElement.innerText")

    def tab_to(self, wanted, most=40):
        """Tab until what has this id, or a class of this name, has the focus."""
        for _ in range(most):
            if self.value(f"document.activeElement.id === {json.dumps(wanted)} || document.activeElement.classList.contains({json.dumps(wanted)})"):
                return True
            self.press("Tab")
        return False

    def picture(self):
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def nameless(self):
        """Roles of what can be used and has no name for a screen reader."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        use = {"button", "textbox", "combobox", "slider", "checkbox", "spinbutton", "link", "MenuListPopup", "table", "region"}
        return [node["role"]["value"] for node in nodes if not node.get("ignored") and node.get("role", {}).get("value") in use - {"MenuListPopup"}
                and not str(node.get("name", {}).get("value", "")).strip()]

    def complaints(self):
        """What scripts and the policy complained of, since the last time."""
        found = []
        for event in self.own_events("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
            parameters = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(parameters["exceptionDetails"].get("exception", {}).get("description") or parameters["exceptionDetails"]["text"])
            elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                found.append(parameters["entry"]["text"] + " " + parameters["entry"].get("url", ""))
            elif event["method"] == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert"):
                found.append(str(parameters["args"]))
        return found

    def asked_for(self):
        """Addresses of its requests so far."""
        self.value("1")
        return [event["params"]["request"]["url"] for event in self.own_events("Network.requestWillBeSent")]
