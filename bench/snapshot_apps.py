"""The apps of bench/snapshot: one volume each, that can be filled to a size and written to."""

import json
import os
import shutil
import signal
import struct
import subprocess
from pathlib import Path

from vibe_cli import BIN, get, write_app

HERE = Path(__file__).resolve().parent
MIB = 1 << 20
FILE = 64 * MIB


def write_random(folder, size):
    """Files of random bytes in `folder` until they are `size` bytes together."""
    have = sum(path.stat().st_size for path in folder.glob("bulk-*"))
    while have < size:
        part = min(FILE, size - have)
        with open(folder / f"bulk-{have // MIB:08}", "wb") as file:
            for _ in range(0, part, MIB):
                file.write(os.urandom(MIB))
        have += part


class WriterApp:
    """A service of ours (snapshot_load.py) over a volume that is mounted at /data."""

    def __init__(self, vibe, folder):
        self.vibe, self.name = vibe, f"bench-{self.kind}"
        app = write_app(folder / self.name,
                        [{"name": "web", "image": "vibe-examples/python:3.11", "command": ["python3", "snapshot_load.py"],
                          "env": {"KIND": self.kind}, "ports": [{"container": 8080}], "stateVolumes": ["data:/data"]}],
                        images=("python",), state={"volumes": [{"name": "data", "consistency": self.kind}]})
        shutil.copy(HERE / "snapshot_load.py", app)
        self.project = vibe.open(app, name=self.name)

    def volume(self):
        return self.vibe.inside(f"/run/vibe/data/projects/{self.project['id']}/current/volumes/data")

    def start(self):
        if get(self.project["url"] + "/start") is None:
            raise RuntimeError(f"{self.name} does not answer")

    def stop(self):
        """How long the writes took; empty after a restore, which ends the service that knew."""
        return json.loads(get(self.project["url"] + "/stop", timeout=60) or "{}")


class Generic(WriterApp):
    kind = "generic"

    def grow(self, size):
        write_random(self.volume(), size)


class Sqlite(WriterApp):
    kind = "sqlite"

    def grow(self, size):
        if get(f"{self.project['url']}/grow/{size}", timeout=1800) is None:
            raise RuntimeError(f"{self.name} was not filled: {self.vibe('logs', self.name)}")


class Postgres:
    """The load is pgbench, inside of the database's container."""

    kind = "postgres"
    chunk, value = 64 * MIB, 64 << 10

    def __init__(self, vibe, folder):
        self.vibe, self.name, self.load, self.have = vibe, "bench-postgres", None, 0
        app = write_app(folder / self.name, [{
            "name": "db", "image": "vibe-examples/postgres:15",
            # Filling a table that was made in the same transaction then needs no log of it.
            "command": ["postgres", "-c", "wal_level=minimal", "-c", "max_wal_senders=0"],
            "env": {"POSTGRES_PASSWORD": "bench"}, "stateVolumes": ["data:/var/lib/postgresql/data"],
            "healthcheck": {"test": ["CMD", "pg_isready", "--quiet", "--host=/run/postgresql"],
                            "interval": "5s", "timeout": "3s", "retries": 3, "startPeriod": "2m"}}],
            images=("postgres",), state={"volumes": [{"name": "data", "consistency": self.kind}]})
        self.project = vibe.open(app, name=self.name)
        self.inside("pgbench", "-q", "-i", "-s", "10", "-U", "postgres", "postgres")

    def inside(self, *words):
        return self.vibe("exec", self.name, "--", *words, timeout=1800)

    def grow(self, size):
        """Copies a file of random bytes, in COPY's binary format, as often as it takes."""
        file = self.vibe.inside(f"/run/vibe/data/projects/{self.project['id']}/current/volumes/data/bulk.copy")
        with open(file, "wb") as out:
            out.write(b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0))
            for _ in range(self.chunk // self.value):
                out.write(struct.pack(">hi", 1, self.value) + os.urandom(self.value))
            out.write(struct.pack(">h", -1))
        table = f"bulk_{size // MIB}"
        copies = ["COPY {} FROM '/var/lib/postgresql/data/bulk.copy' (FORMAT binary)".format(table)] * (
            (size - self.have + self.chunk - 1) // self.chunk)
        self.inside("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-c",
                    f"BEGIN; CREATE TABLE {table} (content bytea); "
                    f"ALTER TABLE {table} ALTER content SET STORAGE EXTERNAL; {'; '.join(copies)}; COMMIT", "-c",
                    "CHECKPOINT")
        file.unlink()
        self.have = size

    def start(self):
        self.load = subprocess.Popen(
            [str(BIN / "vibe"), "exec", self.name, "--", "pgbench", "-n", "-c", "4", "-T", "3600", "-U", "postgres", "postgres"],
            env=self.vibe.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        self.load.send_signal(signal.SIGINT)
        self.load.wait(timeout=60)
        return {}


KINDS = {app.kind: app for app in (Generic, Sqlite, Postgres)}
