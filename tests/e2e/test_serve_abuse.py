#!/usr/bin/env python3
"""`drr serve` from outside, by those who mean it harm: slow clients, giant and deep bodies, bytes that are no HTTP and no UTF-8,
requests behind requests, lengths that contradict each other, ten thousand connections. While all of it goes on an honest client
asks again and again, and has to be answered right each time; each abuser gets the status that says what is wrong, or is cut; and in
the end the server holds no more memory and files than before."""
import json
import os
import resource
import select
import shutil
import socket
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from serving import ANSWER, Served, Upstream, chat, is_error, make_critic, missing, request  # noqa: E402
from checks import check, failures  # noqa: E402

SLOW = 2  # seconds that a client may take for a header, a body, or to read
BODY = 1 << 20
WORK = tempfile.mkdtemp(prefix="drr-e2e.")


class Honest(threading.Thread):
    """Asks all the while, on connections of its own."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.n, self.slowest, self.bad, self.ended, self.cut = port, 0, 0.0, [], threading.Event(), 0
        self.start()

    def ask(self, nonce):
        """A connection that is closed before its request is there may be tried again, as HTTP's clients do: where all places are taken
        and this machine is slow, it may be the one to go. How often that happens is counted."""
        body = chat(f"What of {nonce}?", drr={"threshold": 0})
        try:
            return request(self.port, "POST", "/v1/chat/completions", body, seconds=20)
        except OSError as error:
            if "RemoteDisconnected" not in str(error):
                raise
            self.cut += 1
            return request(self.port, "POST", "/v1/chat/completions", body, seconds=20)

    def run(self):
        while not self.ended.is_set():
            self.n += 1
            nonce, began = f"nonce-honest-{self.n}", time.monotonic()
            try:
                status, _, said = self.ask(nonce)
                good = status == 200 and said["choices"][0]["message"]["content"] == ANSWER.replace("{nonce}", nonce)
            except (OSError, KeyError, TypeError) as error:
                good, status, said = False, 0, repr(error)
            if not good:
                self.bad.append((status, str(said)[:200]))
            self.slowest = max(self.slowest, time.monotonic() - began)
            time.sleep(.02)

    def stop(self):
        self.ended.set()
        self.join(30)


def connect(port):
    return socket.create_connection(("127.0.0.1", port), 30)


def read_all(link, seconds):
    """What comes until the other side closes, or so long; and whether it closed."""
    seen, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        link.settimeout(max(.01, end - time.monotonic()))
        try:
            more = link.recv(1 << 16)
        except (socket.timeout, TimeoutError):
            return seen, False
        except OSError:
            return seen, True
        if not more:
            return seen, True
        seen += more
    return seen, False


def say(port, data, seconds=10):
    """(statuses of the replies, all that came, whether the server closed): data is sent as far as it is taken."""
    with connect(port) as link:
        try:
            link.sendall(data)
        except OSError:
            pass
        seen, closed = read_all(link, seconds)
    return [int(part[:3]) for part in seen.split(b"HTTP/1.1 ")[1:] if part[:3].isdigit()], seen, closed


def post(body, *headers, path="/v1/chat/completions", length=None):
    body = body if isinstance(body, bytes) else body.encode()
    head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", f"Content-Length: {len(body) if length is None else length}", *headers]
    return ("\r\n".join(head) + "\r\n\r\n").encode() + body


def body_of(seen):
    try:
        return json.loads(seen.split(b"\r\n\r\n", 1)[1])
    except (IndexError, ValueError):
        return None


# ---- slow ones

def drip(links, seconds, byte):
    """A byte now and then on each, until all are cut: (how many were, when the last one was, what they were told)."""
    began, open_links, told = time.monotonic(), dict.fromkeys(links, b""), []
    while open_links and time.monotonic() < began + seconds:
        for link in list(open_links):
            try:
                link.send(byte)
            except OSError:
                told.append(open_links.pop(link))
        ready, _, _ = select.select(list(open_links), [], [], .3)
        for link in ready:
            try:
                more = link.recv(4096)
            except OSError:
                more = b""
            open_links[link] += more
            if not more:
                told.append(open_links.pop(link))
    return len(links) - len(open_links), time.monotonic() - began, told


def check_slow(served):
    links = [connect(served.port) for _ in range(400)]
    for link in links:
        link.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
    cut, seconds, _ = drip(links, 6 * SLOW, b"a")
    check("slowloris: 400 headers that never end are cut", cut == 400 and seconds < 5 * SLOW, cut, seconds)
    for link in links:
        link.close()
    links = [connect(served.port) for _ in range(100)]
    for link in links:
        link.sendall(post("{", length=1000))
    cut, seconds, told = drip(links, 6 * SLOW, b" ")
    check("100 bodies that never end are cut, or told 408", cut == 100 and seconds < 5 * SLOW and
          all(not text or b" 408 " in text[:20] for text in told), cut, seconds, told[:1])
    for link in links:
        link.close()
    links = []
    for _ in range(20):  # a long reply that nobody reads
        link = socket.socket()
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect(("127.0.0.1", served.port))
        link.sendall(post(json.dumps({"input": "x" * (BODY - 1000)}), path="/v1/embeddings"))
        links.append(link)
    time.sleep(3 * SLOW)
    whole = sum(len(read_all(link, 3)[0]) > BODY - 1000 for link in links)
    check("20 that do not read their reply are cut", whole == 0, whole)
    for link in links:
        link.close()


# ---- too much

def check_giant(served):
    before = served.resident_mb()
    statuses, seen, closed = say(served.port, post("{}", length=10 << 30))
    check("a body of 10 GB is refused before it is sent", statuses == [413] and is_error(body_of(seen)), seen[:400])
    with connect(served.port) as link:
        link.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent, piece = 0, b"10000\r\n" + b"x" * 65536 + b"\r\n"
        try:
            while sent < 64 * BODY:
                link.sendall(piece)
                sent += 65536
        except OSError:
            pass
        seen, closed = read_all(link, 10)
    check("a chunked body without end is refused where the limit is", closed and sent < 64 * BODY and (not seen or b" 413 " in seen[:20]),
          sent, seen[:200])
    for what, head in (("a header of 1 MB", b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Large: " + b"a" * (1 << 20) + b"\r\n\r\n"),
                       ("a hundred thousand headers", b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"A: b\r\n" * 100000 + b"\r\n"),
                       ("a path of 1 MB", b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")):
        statuses, seen, closed = say(served.port, head)
        check(f"{what}: 431, 414 or cut", closed and (not statuses or statuses[0] in (400, 413, 414, 431)), statuses, closed)
    for what, body in (("[ 300,000 deep", "[" * 300000), ("{ 100,000 deep", '{"a":' * 100000), ("deep in a message", json.dumps(chat("x"))[:-1] +
                       ', "more": ' + "[" * 100000 + "]" * 100000 + "}")):
        statuses, seen, _ = say(served.port, post(body, "Connection: close"))
        check(f"JSON {what}: 400", statuses == [400] and is_error(body_of(seen), "invalid_request_error"), seen[:300])
    body = json.dumps(chat("x"))[:-1] + ', "n": 1e999, "seed": 123456789012345678901234567890, "temperature": NaN}'
    statuses, seen, _ = say(served.port, post(body, "Connection: close"))
    check("numbers that are none: 400", statuses == [400] and is_error(body_of(seen)), seen[:300])
    many = {"model": "drr", "messages": [{"role": "user", "content": "x"}] * 20000}
    statuses, seen, _ = say(served.port, post(json.dumps(many), "Connection: close"), 20)
    check("twenty thousand messages: answered or refused with words", statuses in ([200], [400], [413]), seen[:300])
    check("none of it left memory behind", served.resident_mb() < before + 64, before, served.resident_mb())


# ---- wrong bytes

def check_bytes(served):
    for what, body in (("a lone continuation byte", b'{"model": "drr", "messages": [{"role": "user", "content": "\x80"}]}'),
                       ("an overlong slash", b'{"model": "drr", "messages": [{"role": "user", "content": "\xc0\xaf"}]}'),
                       ("a surrogate", b'{"model": "drr", "messages": [{"role": "user", "content": "\xed\xa0\x80"}]}'),
                       ("half a surrogate pair, escaped", b'{"model": "drr", "messages": [{"role": "user", "content": "\\ud800"}]}'),
                       ("a byte of zero", b'{"model": "drr", "messages": [{"role": "user", "content": "a\x00b"}]}'),
                       ("UTF-16", '{"model": "drr"}'.encode("utf-16")), ("nothing", b""), ("zeros", bytes(1000))):
        statuses, seen, _ = say(served.port, post(body, "Connection: close"))
        check(f"a body with {what}: 400", statuses == [400] and is_error(body_of(seen), "invalid_request_error"), seen[:300])
    for what, data in (("TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)),
                       ("random bytes", bytes(range(256)) * 8), ("an SMTP greeting", b"EHLO example.org\r\n\r\n"),
                       ("HTTP/9.9", b"GET /health HTTP/9.9\r\n\r\n"), ("no version", b"GET /health\r\n\r\n"),
                       ("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(40))):
        statuses, seen, closed = say(served.port, data, 3 * SLOW)
        check(f"{what}: refused or cut", (not statuses or statuses[0] >= 400) and (closed or statuses), statuses, closed, seen[:100])
    for what, head, body in (
            ("two lengths", "Content-Length: 5\r\nContent-Length: 50", b"{}   "),
            ("a length below zero", "Content-Length: -5", b"{}"),
            ("a length that is no number", "Content-Length: 5x", b"{}   "),
            ("a length beyond 64 bits", "Content-Length: 99999999999999999999999", b"{}"),
            ("chunks whose size is no number", "Transfer-Encoding: chunked", b"zz\r\n{}\r\n0\r\n\r\n"),
            ("chunks whose size overflows", "Transfer-Encoding: chunked", b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n")):
        statuses, seen, closed = say(served.port, f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n\r\n".encode() + body, 3 * SLOW)
        # libmicrohttpd 0.9.75 writes the head of a refusal of its own twice: one request, two statuses
        check(f"{what}: refused, and the connection ends", closed and all(status >= 400 for status in statuses), statuses, closed)
    inner = b"GET /smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    data = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner
    statuses, seen, closed = say(served.port, data, 3 * SLOW)
    check("a length and chunks at once: one request at most, and no smuggled one", len(statuses) < 2 or 200 not in statuses, statuses, seen[:300])


def check_pipeline(served):
    names = [f"nonce-pipe-{i}" for i in range(40)]
    data = b"".join(post(json.dumps(chat(f"What of {name}?", drr={"threshold": 0})), *(["Connection: close"] if name == names[-1] else []))
                    for name in names)
    statuses, seen, _ = say(served.port, data, 20)
    order = [seen.find(name.encode()) for name in names]
    check("40 requests in one go: 40 answers, in order", statuses == [200] * 40 and order == sorted(order) and -1 not in order, statuses)
    for what, junk in (("bytes that are no request", b"\x00\x01\x02 garbage\r\n\r\n"), ("half a request", b"POST /v1/chat/comp")):
        statuses, seen, closed = say(served.port, post(json.dumps(chat("What of nonce-first?", drr={"threshold": 0}))) + junk, 4 * SLOW)
        check(f"a request, and behind it {what}: the first is answered, then it ends", statuses[:1] == [200] and b"nonce-first" in seen and closed and
              all(status >= 400 for status in statuses[1:]), statuses, closed)
    for method in ("TRACE", "CONNECT", "DELETE", "PUT", "BREW"):
        statuses, seen, _ = say(served.port, f"{method} /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        check(f"{method}: refused", bool(statuses) and statuses[0] in (400, 404, 405, 501), statuses)
    for path in ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/v1/../metrics/../../etc/passwd", "//etc/passwd", "/v1/models/..%2f..%2fetc%2fpasswd"):
        statuses, seen, _ = say(served.port, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        check(f"GET {path}: 400 or 404", bool(statuses) and statuses[0] in (400, 404) and b"root:" not in seen, statuses)


def check_no_fetch(served):
    """No field and no header makes the server call an address of the client's choosing."""
    with socket.socket() as trap:
        trap.bind(("127.0.0.1", 0))
        trap.listen(64)
        there = f"http://127.0.0.1:{trap.getsockname()[1]}/v1"
        host = there.split("/")[2]
        body = chat("x", base_url=there, api_base=there, upstream=there, callback=there, webhook=there, drr={"threshold": 0})
        body["messages"][0]["content"] = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": there + "/a.png"}}]
        request(served.port, "POST", "/v1/chat/completions", body, {"X-Forwarded-Host": host, "Forwarded": f"host={host}",
                                                                     "Location": there, "Referer": there}.items())
        request(served.port, "POST", "/v1/chat/completions", chat("x", drr={"upstream": there, "base_url": there}))
        say(served.port, post(json.dumps(chat("x")), "Connection: close", path=there + "/chat/completions"))
        say(served.port, f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), 2)
        request(served.port, "GET", f"/v1/models/@{host}/x")
        request(served.port, "POST", f"/v1/embeddings/@{host}/", {"input": "x"})
        ready, _, _ = select.select([trap], [], [], 1)
        check("no request makes the server call another address", not ready)


# ---- ten thousand

def check_many(served, honest):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = min(10000, most - 500)
    n_before, bad_before = honest.n, len(honest.bad)
    links, refused = [], 0
    for i in range(wanted):
        link = socket.socket()
        link.settimeout(5)
        try:
            link.connect(("127.0.0.1", served.port))
            if i % 3 == 0:
                link.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n")  # and never more
            elif i % 3 == 1:
                link.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")  # answered, then idle
            links.append(link)
        except OSError:
            refused += 1
            link.close()
    time.sleep(2)
    files = served.open_files()
    print(f"# {len(links)} connections made, {refused} not; {files} files open in the server, {served.resident_mb():.0f} MB", flush=True)
    check(f"{wanted} connections are taken or refused, and the server stays below its limit", len(links) + refused == wanted and files < 2600, files)
    check("and the honest client is answered meanwhile", honest.n > n_before + 5 and len(honest.bad) == bad_before, honest.n - n_before, honest.bad[bad_before:][:3])
    for link in links:
        link.close()


def main():
    why = missing()
    if why:
        print(why)
        return 77
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        critic = make_critic(WORK)
        with Upstream(os.path.join(WORK, "upstream.log")) as upstream, \
                Served(os.path.join(WORK, "served.log"), "--upstream", upstream.url, "--critic", critic, "--max-connections", "2048", "--max-body", str(BODY),
                       "--header-timeout", str(SLOW), "--body-timeout", str(SLOW), "--write-timeout", str(SLOW), "--idle-timeout", str(SLOW)) as served:
            request(served.port, "POST", "/v1/chat/completions", chat("x"))
            memory, files, honest = served.resident_mb(), served.open_files(), Honest(served.port)
            try:
                for part in (check_bytes, check_pipeline, check_giant, check_slow, check_no_fetch):
                    part(served)
                check_many(served, honest)
            finally:
                honest.stop()
            print(f"# the honest client asked {honest.n} times, the slowest took {honest.slowest:.2f} s", flush=True)
            check("the honest client was answered right every time", honest.n > 100 and not honest.bad, len(honest.bad), *honest.bad[:5])
            check("and hardly ever had to ask again", honest.cut <= honest.n // 200, honest.cut, honest.n)
            check("and never waited long", honest.slowest < 5, honest.slowest)
            time.sleep(1)
            check("in the end it holds no more files than before, and little memory", served.open_files() < files + 64 and
                  served.resident_mb() < memory + 128, (files, served.open_files()), (memory, served.resident_mb()))
            check("SIGTERM ends it well", served.stop() == 0, served.said()[-1000:])
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    return 1 if failures() else 0


if __name__ == "__main__":
    sys.exit(main())
