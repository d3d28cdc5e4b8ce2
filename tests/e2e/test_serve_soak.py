#!/usr/bin/env python3
"""`drr serve` under many clients at once, before an upstream that fails in every way, with clients that vanish: nobody may get a
wrong or another's answer, nobody may wait for ever, and nothing may grow.

    test_serve_soak.py [--seconds S] [--clients N] [--rate R] [--seed N] [--sanitized]

Each request carries a word of its own; the answer is known to the letter from it, and any other request's word in a reply shows.
A twentieth of the upstream's calls go wrong (bench/serve_upstream.c: resets, silence, stalls, cut and half bodies, malformed JSON,
429, 5xx, a login page, an error's body, a slow drip). A tenth of the clients leave at some moment. In between drr is told to read
its critic again (SIGHUP). The test suite runs 25 seconds; the record is 600. --sanitized: of a build whose memory says nothing and
which is slow (DRR names it); what its sanitizer found is looked for in its log."""
import argparse
import asyncio
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from serving import ANSWER, Served, Upstream, events, is_error, make_critic, missing  # noqa: E402
from checks import DRR, ROOT, check, failures  # noqa: E402

VANISH, THINK, STUCK = .1, .15, 60  # share of requests left early; seconds between two, at most; what nobody waits
NONCE = re.compile(r"nonce-[a-z0-9-]+")
TOO_MUCH = {429, 502, 503, 504}  # what may be said of a broken upstream


class Wrong(Exception):
    pass


class Tally:
    def __init__(self):
        self.right = self.abstained = self.refused = self.failed_late = self.vanished = self.stuck = 0
        self.wrong, self.statuses, self.slowest = [], {}, 0.0

    def note(self, problem):
        self.wrong.append(problem)

    def asked(self):
        return self.right + self.abstained + self.refused + self.failed_late + self.vanished + self.stuck + len(self.wrong)


async def read_reply(reader):
    """(status, headers, body) of a reply, by its length or by chunks; Wrong where it is neither."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split()[1])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while True:
            size = int((await reader.readline()).strip() or b"x", 16)
            body += await reader.readexactly(size)
            await reader.readexactly(2)
            if not size:
                break
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        raise Wrong(f"a reply without a length: {head}")
    return status, headers, body.decode()


def judge_reply(tally, nonce, stream, status, body):
    """Counts a whole reply, or says what is wrong with it."""
    expected = ANSWER.replace("{nonce}", nonce)
    others = set(NONCE.findall(body)) - {nonce}
    if others:
        raise Wrong(f"{nonce} was told of {others}")
    tally.statuses[status] = tally.statuses.get(status, 0) + 1
    if status != 200:
        if status not in TOO_MUCH or not is_error(json.loads(body)):
            raise Wrong(f"status {status}: {body[:300]}")
        tally.refused += 1
        return
    if not stream:
        said = json.loads(body)
        content, drr = said["choices"][0]["message"]["content"], said["drr"]
    else:
        content, drr, seen = "", None, events(body)
        if seen and '"error"' in seen[-1] and is_error(json.loads(seen[-1])):
            tally.failed_late += 1
            return
        if not seen or seen[-1] != "[DONE]":
            raise Wrong(f"a stream without its end: {body[-300:]}")
        for event in map(json.loads, seen[:-1]):
            for choice in event["choices"]:
                content += choice["delta"].get("content") or ""
            drr = event.get("drr", drr)
    if content == expected:
        tally.right += 1
    elif drr and drr.get("verdict") == "abstain" and not NONCE.search(content):
        tally.abstained += 1
    else:
        raise Wrong(f"wanted {expected!r}, got {content!r}: {drr}")


class Client:
    def __init__(self, number, port, seed, tally):
        self.name, self.port, self.tally = f"{os.getpid():x}-{number}", port, tally
        self.random = random.Random(seed * 100003 + number)
        self.keeps = number % 2 == 0  # the connection, from one request to the next
        self.link, self.n = None, 0

    def leave(self):
        """As a process that dies (RST) or a browser that closes."""
        if self.link:
            writer = self.link[1]
            if self.random.random() < .5:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort() if self.random.random() < .5 else writer.close()
            self.link = None

    def request(self):
        self.n += 1
        nonce, draw = f"nonce-{self.name}-{self.n}", self.random
        stream = draw.random() < .9
        policy = {"threshold": draw.choice([0, .5, 1]), "max_turns": draw.randint(1, 3), "on_exhausted": draw.choice(["best", "abstain"])}
        if stream and draw.random() < .3:
            policy["stream_mode"] = "live"
        body = json.dumps({"model": "instant", "stream": stream, "drr": policy, "messages": [
            {"role": "user", "content": f"What of {nonce}? " + "It is long. " * draw.choice([0, 0, 0, 200])}]}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return nonce, stream, head.encode() + body

    async def one(self):
        nonce, stream, message = self.request()
        if not self.link:
            self.link = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22)
        reader, writer = self.link
        writer.write(message)
        reply = asyncio.create_task(read_reply(reader))
        if self.random.random() < VANISH:
            await asyncio.wait([reply], timeout=self.random.choice([0, .001, .005, .02, .1]))
            reply.cancel()
            try:
                await reply
            except (asyncio.CancelledError, OSError, EOFError, Wrong, ValueError):
                pass
            self.leave()
            self.tally.vanished += 1
            return
        began = time.monotonic()
        try:
            status, headers, body = await asyncio.wait_for(reply, STUCK)
        except asyncio.TimeoutError:
            self.tally.stuck += 1
            self.leave()
            return
        self.tally.slowest = max(self.tally.slowest, time.monotonic() - began)
        judge_reply(self.tally, nonce, stream, status, body)
        if not self.keeps or headers.get("connection", "").lower() == "close":
            writer.close()
            self.link = None

    async def run(self, end):
        await asyncio.sleep(self.random.random())
        while time.monotonic() < end:
            try:
                await self.one()
            except (Wrong, ValueError, KeyError, TypeError) as wrong:
                self.tally.note(f"{type(wrong).__name__}: {wrong}")
                self.leave()
            except (OSError, EOFError) as broken:  # drr may not cut a connection without a reply
                self.tally.note(f"cut off: {type(broken).__name__} {broken}")
                self.leave()
            await asyncio.sleep(self.random.random() * THINK)
        self.leave()


def middle(values):
    return sorted(values)[len(values) // 2]


async def watch(served, end, samples, swaps):
    swap = time.monotonic() + 2
    while time.monotonic() < end and served.alive():
        samples.append((time.monotonic(), served.resident_mb(), served.open_files()))
        if time.monotonic() > swap:
            served.process.send_signal(signal.SIGHUP)
            swaps.append(time.monotonic())
            swap += 7
        await asyncio.sleep(.5)


async def soak(served, arguments, tally, samples, swaps):
    end = time.monotonic() + arguments.seconds
    clients = [Client(i, served.port, arguments.seed, tally) for i in range(arguments.clients)]
    await asyncio.gather(watch(served, end, samples, swaps), *(client.run(end) for client in clients))


def settle(served, upstream, seconds):
    """Whether nothing is under way any more, within so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if upstream.stats()["under_way"] == 0 and served.metric("drr_requests_in_flight") == 0:
            return True
        time.sleep(.1)
    return False


def check_growth(samples, began, seconds, served, before):
    """After the first minute, or the first third of a short run, nothing grows."""
    later = [s for s in samples if s[0] > began + min(60, seconds / 3)]
    fifth = max(1, len(later) // 5)
    first, last = later[:fifth], later[-fifth:]
    memory = [middle([s[1] for s in part]) for part in (first, last)]
    print(f"# resident {memory[0]:.1f} MB, then {memory[1]:.1f}; files {before} before, at most {max(s[2] for s in samples)}, "
          f"{served.open_files()} at the end", flush=True)
    check("memory does not grow", memory[1] < 1.05 * memory[0] + 8, memory)
    check("file descriptors do not grow", middle([s[2] for s in last]) <= 1.1 * middle([s[2] for s in first]) + 16,
          [middle([s[2] for s in part]) for part in (first, last)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=25)
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--rate", type=float, default=.05)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--sanitized", action="store_true")
    arguments = parser.parse_args()
    why = missing()
    if why:
        print(why)
        return 77
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    work, tally, samples, swaps = tempfile.mkdtemp(prefix="drr-e2e."), Tally(), [], []
    try:
        critic = make_critic(work, trainer=os.path.join(ROOT, "build", "release", "drr") if arguments.sanitized else DRR)
        with Upstream(os.path.join(work, "upstream.log"), "--rate", str(arguments.rate), "--seed", str(arguments.seed), "--stall", "5") as upstream, \
                Served(os.path.join(work, "served.log"), "--upstream", upstream.url, "--critic", critic, "--metrics", "--timeout", "3",
                       "--max-connections", str(4 * arguments.clients), "--max-in-flight", "0",
                       *(["--threads", "1"] if arguments.sanitized else [])) as served:  # ThreadSanitizer does not know libgomp's barriers
            before, began = served.open_files(), time.monotonic()
            asyncio.run(soak(served, arguments, tally, samples, swaps))
            stats = upstream.stats()
            print(f"# {tally.asked()} requests in {time.monotonic() - began:.0f} s: {tally.right} right, {tally.abstained} abstained, {tally.refused} refused, "
                  f"{tally.failed_late} failed in their stream, {tally.vanished} left; statuses {tally.statuses}; slowest {tally.slowest:.1f} s; "
                  f"{len(swaps)} critics read again\n# upstream: {stats}", flush=True)
            check("it is still there", served.alive(), served.said()[-2000:])
            check("no answer is wrong, mixed up or cut off", not tally.wrong, len(tally.wrong), *sorted(set(tally.wrong))[:8])
            check("no request is stuck", tally.stuck == 0, tally.stuck)
            good = tally.right + tally.abstained
            check("nine of ten are answered in spite of the upstream", tally.right > 50 and good >= .9 * (good + tally.refused + tally.failed_late),
                  vars(tally))
            check("every fault had its turn", arguments.sanitized or arguments.seconds < 15 or all(stats["faults"].values()), stats)
            check("when the clients are gone nothing is under way, here or at the upstream", settle(served, upstream, 20),
                  upstream.stats(), served.metric("drr_requests_in_flight"))
            if not arguments.sanitized:
                check_growth(samples, began, arguments.seconds, served, before)
            check("SIGTERM ends it well", served.stop(seconds=30) == 0, served.said()[-2000:])
            found = [text for text in served.said().splitlines() if "Sanitizer" in text or "runtime error" in text]
            check("no sanitizer found anything", not found, *found[:5], served.said()[-4000:] if found else "")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 1 if failures() else 0


if __name__ == "__main__":
    sys.exit(main())
