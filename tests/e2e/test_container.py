#!/usr/bin/env python3
"""packaging/Dockerfile, as far as a machine without Docker can tell: its packages are Debian 12's and bring along every library that
the command loads, its commands do what they are there for, what it copies is made, and what it starts asks for a key, listens to
others, is healthy by its own check and ends in order."""
import glob
import importlib.machinery
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from checks import ROOT, check, failures, lacking  # noqa: E402
from front import URL, Server, answered, environment  # noqa: E402

BUILD = os.path.join(ROOT, "build", "release")
WORK = tempfile.mkdtemp(prefix="drr-container.")
KEY = "a-key-for-the-container"
BASE = ["apt", "base-files", "bash", "coreutils", "dpkg", "libc6", "mount", "passwd"]  # some of what debian:12-slim begins with


def said(*words, **more):
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)


def read_stages():
    """[(instruction, rest), ...] of each stage, lines joined as Docker joins them."""
    with open(os.path.join(ROOT, "packaging", "Dockerfile")) as file:
        text = "".join(line for line in file if not line.startswith("#"))
    stages = []
    for line in text.replace("\\\n", "").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            stages.append([])
        if word:
            stages[-1].append((word, rest.strip()))
    return stages


def all_of(stage, word):
    return [rest for name, rest in stage if name == word]


def packages_of(stage):
    found = []
    for command in all_of(stage, "RUN"):
        for step in command.split("&&"):
            words = step.split()
            if words[:2] == ["apt-get", "install"]:
                found += [word for word in words[2:] if not word.startswith("-")]
    return found


def variables_of(stage):
    return dict(pair.split("=", 1) for rest in all_of(stage, "ENV") for pair in shlex.split(rest))


def step_of(stage, beginning):
    """The step of a RUN that begins so."""
    return next(step.strip() for command in all_of(stage, "RUN") for step in command.split("&&") if step.strip().startswith(beginning))


# ---- packages

def names_are_debians(stages):
    setup = importlib.machinery.SourceFileLoader("setup_tool", os.path.join(ROOT, "tools", "setup")).load_module()
    names = [*packages_of(stages[0]), *packages_of(stages[1]), *setup.BUILD_PACKAGES]
    unknown = set(names) - set(re.findall(r"^Package: (\S+)", said("apt-cache", "show", "--no-all-versions", *names).stdout, re.M))
    check("every package that it installs, and make build after it, is one of Debian 12", len(names) > 30 and not unknown, unknown)


def libraries_are_there(stages, prefix):
    """What the command, its library of models and their builds for each CPU load, and which packages have that."""
    closure = set(said("apt-cache", "depends", "--recurse", "--important", *BASE, *packages_of(stages[1])).stdout.split())
    files = [os.path.join(prefix, "bin", "drr"), *(file for file in glob.glob(prefix + "/lib/drr/*.so") if "mpi" not in file)]
    loaded = {found for file in files for found in re.findall(r"=> (/\S+)", said("ldd", file).stdout)}
    loaded = {found for found in loaded if not os.path.realpath(found).startswith(prefix + "/")}
    lost = {}
    for path in sorted(loaded):
        real = os.path.realpath(path)
        owners = said("dpkg", "-S", real, real.removeprefix("/usr")).stdout
        names = {line.split(":")[0] for line in owners.splitlines() if "no path found" not in line}
        if not names & closure:
            lost[path] = sorted(names)
    check("the second stage has every library that is loaded", len(loaded) > 15 and not lost, lost)
    check("and what its health check runs on, and pip for models", {"python3", "python3-pip"} <= closure)


# ---- commands

def its_commands_do_their_work(stages):
    copied = next(rest.split()[1] for rest in all_of(stages[1], "COPY") if rest.startswith("--from=build"))
    check("what the second stage copies is where the first one installs", f"--prefix {copied}" in step_of(stages[0], "cmake --install"), copied)
    check("its build is a target of the Makefile", said("make", "-n", step_of(stages[0], "make").split()[1], cwd=ROOT).returncode == 0)
    left_out = set(open(os.path.join(ROOT, "packaging", "Dockerfile.dockerignore")).read().split())
    tracked = {name.split("/")[0] for name in said("git", "ls-files", cwd=ROOT).stdout.splitlines()}
    check("nothing of the repository is left out of the clone", tracked and not left_out & (tracked | {".git"}), left_out & tracked)


def its_user_can_write_where_models_go(stages):
    step = next(command for command in all_of(stages[1], "RUN") if command.startswith("useradd"))
    user, home, cache = all_of(stages[1], "USER")[0], all_of(stages[1], "WORKDIR")[0], variables_of(stages[1])["DRR_CACHE"]
    apart = ["unshare", "-m", "sh", "-ec", 'cp -a /etc "$0/etc"; mount --bind "$0/etc" /etc; mount -t tmpfs none /var/lib; ' + step +
             f'; exec setpriv --reuid={user} --regid={user} --clear-groups sh -ec "cd {home}; touch {cache}/model; echo written"', WORK]
    if os.geteuid() or said("unshare", "-m", "true").returncode:
        print("skip - its user: that takes root")
        return
    done = said(*apart)
    check("its user is made, and may write into the cache, as a volume there copies its owner", done.stdout.endswith("written\n"), done.stdout)


# ---- what it starts

def what_it_starts(stages, prefix):
    words = json.loads(all_of(stages[1], "ENTRYPOINT")[0])
    copied = next(rest.split()[1] for rest in all_of(stages[1], "COPY") if rest.startswith("--from=build"))
    # its own settings, and a port that is free here
    settings = {name: value.replace(copied, prefix).replace("$PATH", os.environ["PATH"]) for name, value in variables_of(stages[1]).items()}
    check("it starts the server, as the documents say", words == ["drr", "serve"] and not all_of(stages[1], "CMD"), words)
    found = shutil.which(words[0], path=settings["PATH"])
    check("from where it was installed", found == os.path.join(prefix, "bin", "drr"), found)
    offered = set(re.findall(r"^  (?:-\w, )?--(\S+)", said(found, "serve", "--help").stdout, re.M))
    with open(os.path.join(ROOT, "docs", "serve.md")) as file:
        told = file.read().split("docker run ")[1].split("\n\n")[0]
    named = re.findall(r"-e (DRR_\w+)=", told)
    check("the documents' variables are settings", len(named) == 3 and all(name[4:].lower().replace("_", "-") in offered for name in named),
          named)
    port = all_of(stages[1], "EXPOSE")[0]
    check("and their port is the one that is listened to", f"-p {port}:{port}" in told and f"({port})" in said(found, "serve", "--help").stdout)

    done = said("timeout", "20", *words, env=environment(**settings, DRR_UPSTREAM=URL, DRR_PORT="0"))
    check("without a key it does not start, and says why", done.returncode == 1 and "DRR_API_KEY" in done.stdout, done.stdout)
    server = Server("--log-format", "json", command=found, **settings, DRR_API_KEY=KEY).ready()
    ready = json.loads(server.said("ready"))
    check("with one it listens to others too", ready["host"] == "0.0.0.0", ready)
    check("and answers whoever has it", server.chat()[0] == 401 and answered(server, key=KEY))
    healthy = re.search(r"CMD (.*)", all_of(stages[1], "HEALTHCHECK")[0])[1]
    check("its own check finds it healthy", said("sh", "-c", healthy, env={**os.environ, "DRR_PORT": str(server.port)}).returncode == 0)
    number = all_of(stages[1], "STOPSIGNAL")[0]
    check("and it ends in order when Docker says so", number == "SIGTERM" and server.stop() == 0)
    check("then it is found ill", said("sh", "-c", healthy, env={**os.environ, "DRR_PORT": str(server.port)}).returncode == 1)


def main():
    why = lacking() or (None if os.path.exists(os.path.join(BUILD, "cmake_install.cmake")) else f"there is no build in {BUILD}: run make build")
    if why:
        print(why)
        return 77
    prefix = os.path.join(WORK, "opt")
    stages = read_stages()
    try:
        check("it has two stages", len(stages) == 2, stages)
        subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix], check=True, stdout=subprocess.DEVNULL)
        with open("/etc/os-release") as file:
            listed = 'VERSION_ID="12"' in file.read() and bool(glob.glob("/var/lib/apt/lists/*_Packages*"))
        if listed:
            names_are_debians(stages)
            libraries_are_there(stages, prefix)
        else:
            print("skip - its packages: this is not Debian 12 with its lists of packages (apt-get update brings them)")
        its_commands_do_their_work(stages)
        its_user_can_write_where_models_go(stages)
        what_it_starts(stages, prefix)
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    return 1 if failures() else 0


if __name__ == "__main__":
    sys.exit(main())
