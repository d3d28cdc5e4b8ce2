#!/usr/bin/env python3
"""Training on several ranks, through the installed command and a real mpirun, all on this machine: 2 and 4 ranks end where one
does, whichever rank is killed the job ends within seconds and goes on from its checkpoint to the same bits, and what fails on
one rank is said once. The encoder is a tiny one of random weights: what is checked is the machinery."""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from checks import DRR, check, failures, write_questions  # noqa: E402
import tiny_bert  # noqa: E402

MPIRUN = shutil.which("mpirun")
WORK = tempfile.mkdtemp(prefix="drr-e2e.")
SOON_S = 15
# root may; more ranks than cores; and after a rank is lost the others get time to write the checkpoint
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_odls_base_sigkill_timeout": "3", "OMP_WAIT_POLICY": "passive"}
EPOCH = re.compile(r"^epoch (\d+) of \d+: train loss ([\d.]+), dev loss ([\d.]+), dev AUROC ([\d.]+)", re.M)


def words(out, *more, traces="traces.jsonl", epochs=12):
    return ["train", "--traces", traces, "--encoder", "encoder", "--out", out, "--epochs", str(epochs), "--batch", "16",
            "--patience", "0", "--learning-rate", "3e-3", "--max-length", "64", "--threads", "1", "--seed", "3", "--json",
            "--precision", "fp32", *more]  # in bf16 another order of sums moves the losses as little, and weights by some hundredths


def command(ranks, arguments):
    return [MPIRUN, "-np", str(ranks), DRR, *arguments] if ranks else [DRR, *arguments]


def run(ranks, arguments, **environment):
    return run_command(command(ranks, arguments), **environment)


def run_command(parts, **environment):
    done = subprocess.run(parts, cwd=WORK, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300,
                          stdin=subprocess.DEVNULL, env={**ENVIRONMENT, **environment})
    done.seen = f"exit {done.returncode}\n{done.stdout[-500:]}\n{done.stderr[-1500:]}"
    return done


def curve(text):
    return [tuple(float(x) for x in match[1:]) for match in EPOCH.findall(text)]


def weights(critic):
    """The file with all of a critic's weights, as transformers reads it."""
    folder = os.path.join(WORK, critic + ".export")
    shutil.rmtree(folder, ignore_errors=True)
    done = run_command([DRR, "critic", "export", "--critic", critic, "--to", folder])
    if done.returncode:
        raise RuntimeError(done.seen)
    return os.path.join(folder, "model.safetensors")


def same_bits(a, b):
    with open(weights(a), "rb") as one, open(weights(b), "rb") as other:
        return one.read() == other.read()


def farthest(a, b):
    one, other = tiny_bert.tensors(weights(a)), tiny_bert.tensors(weights(b))
    return max(abs(x - y) for name in one for x, y in zip(one[name], other[name]))


def apart(a, b):
    return max((abs(x - y) for p, q in zip(a, b) for x, y in zip(p, q)), default=9)


# ---- the same curve

def check_curves():
    alone = run(0, words("one.gguf"))
    expected = curve(alone.stderr)
    check("one process trains", alone.returncode == 0 and len(expected) == 12, alone.seen)
    check("and learns something to compare", len(expected) == 12 and expected[0][0] - expected[-1][0] > 0.05, expected)
    files = sorted(name.replace("one", "N") for name in os.listdir(WORK) if name.startswith("one"))
    for ranks in (2, 4):
        done = run(ranks, words(f"ranks{ranks}.gguf"))
        got = curve(done.stderr)
        check(f"{ranks} ranks train", done.returncode == 0, done.seen)
        check(f"{ranks} ranks: losses of train and dev are those of one to 1e-3", len(got) == 12 and apart(
            [epoch[:2] for epoch in got], [epoch[:2] for epoch in expected]) <= 1e-3, got, expected)
        check(f"{ranks} ranks: each epoch and the result are told once", done.stdout.count("\n") == 1 and
              done.stdout.startswith("{") and f"{ranks} ranks" in done.stderr, done.seen)
        made = sorted(name.replace(f"ranks{ranks}", "N") for name in os.listdir(WORK) if name.startswith(f"ranks{ranks}"))
        check(f"{ranks} ranks leave the files of one", made == files, made, files)
        distance = farthest("one.gguf", f"ranks{ranks}.gguf")
        print(f"# {ranks} ranks: curve {apart(got, expected):.5f} apart, weights {distance:.2e} apart", flush=True)
        check(f"{ranks} ranks: the weights are close too", distance < 0.02, distance)
    no_dropout = run(2, words("nodrop.gguf", "--dropout", "0.3"))
    check("another dropout is another curve, so that equal ones say something", apart(curve(no_dropout.stderr), expected) > 2e-3,
          curve(no_dropout.stderr), expected)
    run(2, words("again.gguf"))
    check("the same ranks make the same bits again", same_bits("again.gguf", "ranks2.gguf"))


# ---- killed

def rank_pids(parent):
    """{rank: process id} of what an mpirun started."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat") as file:
                is_child = int(file.read().rsplit(")", 1)[1].split()[1]) == parent
            with open(f"/proc/{name}/environ", "rb") as file:
                rank = re.search(rb"(?:^|\0)OMPI_COMM_WORLD_RANK=(\d+)", file.read())
        except (OSError, IndexError, ValueError):
            continue
        if is_child and rank:
            found[int(rank[1])] = int(name)
    return found


def is_running(pid):
    """A process that has ended may still be listed, where nobody asks how."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def start_and_wait_for_epochs(out, name, epochs):
    """A long run on two ranks, of which some epochs are done."""
    log = os.path.join(WORK, name)
    with open(log, "w") as file:
        job = subprocess.Popen(command(2, words(out, "--resume", epochs=EPOCHS)), cwd=WORK, stdout=subprocess.DEVNULL, stderr=file,
                               stdin=subprocess.DEVNULL, env=ENVIRONMENT)
    end = time.monotonic() + 120
    while time.monotonic() < end and job.poll() is None:
        with open(log) as file:
            if len(curve(file.read())) >= epochs:
                break
        time.sleep(0.02)
    return job, log


EPOCHS = 30


def check_lost(what, out, hurt, wanted):
    job, log = start_and_wait_for_epochs(out, out + ".log", 3)
    pids = rank_pids(job.pid)
    check(f"{what}: two ranks are at work", set(pids) == {0, 1} and job.poll() is None, pids)
    began = time.monotonic()
    hurt(job, pids)
    try:
        code = job.wait(SOON_S)
    except subprocess.TimeoutExpired:
        job.kill()
        code = None
    took = time.monotonic() - began
    with open(log) as file:
        text = file.read()
    print(f"# {what}: ended after {took:.1f} s with {code}", flush=True)
    check(f"{what}: the job ends within {SOON_S} s, and not well", code not in (None, 0), code, text[-800:])
    check(f"{what}: it says so", re.search(wanted, text), text[-1500:])
    time.sleep(0.2)
    check(f"{what}: no rank is left behind", not any(is_running(pid) for pid in pids.values()), pids)
    check(f"{what}: there is a checkpoint and no critic", os.path.exists(os.path.join(WORK, out + ".checkpoint")) and
          not os.path.exists(os.path.join(WORK, out)), os.listdir(WORK))
    done = run(2, words(out, "--resume", epochs=EPOCHS))
    check(f"{what}: it goes on", done.returncode == 0 and re.search(r"going on from .* at step [1-9]", done.stderr), done.seen)
    check(f"{what}: and ends with the bits of a run that was left alone", same_bits(out, "long.gguf"))
    check(f"{what}: leaving nothing half-written", not [name for name in os.listdir(WORK) if ".tmp-" in name], os.listdir(WORK))


def has_pending(pid, number):
    try:
        with open(f"/proc/{pid}/status") as file:
            return int(re.search(r"^ShdPnd:\s*(\w+)", file.read(), re.M)[1], 16) >> (number - 1) & 1
    except OSError:
        return 0


def press_ctrl_c(job, pids):
    """mpirun passes the signal on as SIGCONT and, seconds later, SIGTERM, by when this short run would be over. So the ranks are
    held until it has come."""
    job.send_signal(signal.SIGINT)
    end = time.monotonic() + SOON_S
    while time.monotonic() < end and not all(has_pending(pid, signal.SIGTERM) for pid in pids.values()):
        for pid in pids.values():
            os.kill(pid, signal.SIGSTOP)
        time.sleep(0.01)
    for pid in pids.values():
        os.kill(pid, signal.SIGCONT)


def check_killed():
    done = run(2, words("long.gguf", epochs=EPOCHS))
    check("a long run, left alone", done.returncode == 0, done.seen)
    lost = r"told to stop while waiting for other ranks|signal 9 \(Killed\)"
    check_lost("rank 1 killed", "lost1.gguf", lambda job, pids: os.kill(pids[1], signal.SIGKILL), lost)
    check_lost("rank 0 killed", "lost0.gguf", lambda job, pids: os.kill(pids[0], signal.SIGKILL), lost)
    check_lost("Ctrl-C", "stopped.gguf", press_ctrl_c, r"interrupted|told to stop")
    check_lost("one rank told to stop", "told.gguf", lambda job, pids: os.kill(pids[1], signal.SIGTERM), r"drr: interrupted")


def check_other_counts():
    job, _ = start_and_wait_for_epochs("fewer.gguf", "fewer.log", 3)
    job.kill()
    job.wait()
    for _ in range(100):
        if os.path.exists(os.path.join(WORK, "fewer.gguf.checkpoint")):
            break
        time.sleep(0.1)
    time.sleep(1)
    done = run(0, words("fewer.gguf", "--resume", epochs=EPOCHS))
    check("what two ranks began one process goes on with", done.returncode == 0 and "going on from" in done.stderr, done.seen)


# ---- what fails on one rank

def check_failures():
    def pair(first, second):
        return run_command([MPIRUN, "-np", "1", DRR, *first, ":", "-np", "1", DRR, *second])

    def fails(what, done, *wanted):
        said = [line for line in done.stderr.splitlines() if line.startswith("drr: ")]
        check(what, done.returncode != 0 and len(said) == 1 and all(word in said[0] for word in wanted) and not done.stdout, done.seen)

    fails("traces that one rank does not have", pair(words("x.gguf"), words("x.gguf", traces="missing.jsonl")), "rank 1 on ",
          "missing.jsonl")
    fails("nor rank 0", pair(words("x.gguf", traces="missing.jsonl"), words("x.gguf")), "missing.jsonl")
    fails("other traces on one rank", pair(words("x.gguf"), words("x.gguf", traces="others.jsonl")), "rank 1 on ",
          "other traces, options or another encoder")
    fails("a critic that rank 0 cannot write", run(2, words("folder")), "folder")
    fails("nor make a folder for", run(2, words("traces.jsonl/x.gguf")), "traces.jsonl")
    check("none of them left a file", not os.path.exists(os.path.join(WORK, "x.gguf")), os.listdir(WORK))
    fails("a gradient that is no number", run(2, words("x.gguf", "--encoder", "overflowing")), "step 1 of ",
          "the gradient of token_embd_norm.weight is not finite", "x.gguf.checkpoint")
    missing = run(2, words("y.gguf"), DRR_MPI="no-such-folder/drr-mpi.so")
    check("without the plug-in nothing is trained, twice or once", missing.returncode != 0 and " of 2: no-such-folder/drr-mpi.so" in missing.stderr and
          not os.path.exists(os.path.join(WORK, "y.gguf")), missing.seen)
    whole = run(2, ["run", "--train", "a", "--test", "b"])
    check("drr run is not for ranks", whole.returncode != 0 and whole.stderr.count("this is for one process") == 1, whole.seen)
    usage = run(2, ["train", "--nonsense"])
    check("a command put wrongly is answered once", usage.returncode != 0 and usage.stderr.count("--nonsense") == 1, usage.seen)
    one = run(1, words("single.gguf", epochs=1))
    check("mpirun -np 1 is one process", one.returncode == 0 and "ranks" not in one.stderr, one.seen)


def main():
    plugin = [os.path.join(os.path.dirname(DRR), "..", "lib", "drr", "drr-mpi.so"), os.path.join(os.path.dirname(DRR), "drr-mpi.so")]
    if not MPIRUN or not any(os.path.exists(path) for path in plugin):
        print("there is no mpirun, or drr was built without MPI: run tools/setup mpi, then tools/setup build")
        return 77
    tiny_bert.make(os.path.join(WORK, "encoder"))
    tiny_bert.make(os.path.join(WORK, "overflowing"), scales={"embeddings.position_embeddings.weight": 1e38})
    for name, first in (("traces.jsonl", "0"), ("others.jsonl", "7")):
        write_questions(os.path.join(WORK, name), "100", first, "--traces", "first")
    os.mkdir(os.path.join(WORK, "folder"))
    try:
        check_curves()
        check_killed()
        check_other_counts()
        check_failures()
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    return 1 if failures() else 0


if __name__ == "__main__":
    sys.exit(main())
