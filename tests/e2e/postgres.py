"""A PostgreSQL server of its own for a test or a benchmark: in a folder, on a Unix socket, gone at the end.

    with Server(folder) as server: ... server.url ... server.restart() ...

The server refuses to run as root, so root starts it as the user `postgres`, which Debian's package makes."""
import glob
import os
import shutil
import subprocess
import time


def programs():
    """The folder with initdb and postgres, or None."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]))
    path = found[-1] if found else shutil.which("initdb")
    return os.path.dirname(path) if path else None


class Server:
    def __init__(self, folder, database="drr"):
        self.bin, self.folder, self.database = programs(), folder, database
        self.data = os.path.join(folder, "data")
        self.user = "postgres" if os.geteuid() == 0 else None
        self.url = f"postgres://tester@/{database}?host={folder.replace('/', '%2F')}"
        self.process = None

    def run(self, *command):
        done = subprocess.run(command, user=self.user, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/")
        if done.returncode:
            raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stdout}")
        return done.stdout

    def start(self):
        self.process = subprocess.Popen(
            [os.path.join(self.bin, "postgres"), "-D", self.data, "-k", self.folder, "-h", "", "-c", "logging_collector=off"],
            user=self.user, cwd="/", stdout=subprocess.DEVNULL, stderr=open(os.path.join(self.folder, "log"), "ab"))
        for _ in range(300):
            if subprocess.run([os.path.join(self.bin, "pg_isready"), "-q", "-h", self.folder], cwd="/").returncode == 0:
                return
            if self.process.poll() is not None:
                break
            time.sleep(.1)
        raise RuntimeError("the server did not start: " + open(os.path.join(self.folder, "log"), errors="replace").read()[-2000:])

    def stop(self, how="fast"):
        if self.process:
            self.process.send_signal({"fast": 2, "immediate": 3}[how])  # SIGINT, SIGQUIT: as pg_ctl's modes
            self.process.wait(60)
        self.process = None

    def restart(self, how="immediate", pause=0):
        self.stop(how)
        time.sleep(pause)
        self.start()

    def sql(self, text):
        return self.run(os.path.join(self.bin, "psql"), "-XAtq", "-h", self.folder, "-U", "tester", "-d", self.database,
                        "-v", "ON_ERROR_STOP=1", "-c", text).strip()

    def __enter__(self):
        os.makedirs(self.folder, exist_ok=True)
        if self.user:
            shutil.chown(self.folder, self.user)
        self.run(os.path.join(self.bin, "initdb"), "-D", self.data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C",
                 "--no-sync")
        self.start()
        self.run(os.path.join(self.bin, "createdb"), "-h", self.folder, "-U", "tester", self.database)
        return self

    def __exit__(self, *_):
        self.stop("immediate")
