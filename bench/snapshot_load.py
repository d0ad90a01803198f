"""The service that bench/snapshot saves while it writes. GET /start has it write as fast as each write is on the disk, /stop
has it stop, and answers with how long the writes took, in ms: an app sees a save as a write that takes longer. /grow/BYTES
fills the database."""

import json
import os
import signal
import sqlite3
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path("/data")
FILES, BLOCK, LONGEST = 16, 4096, 4 << 20


def grow_sqlite(size):
    """Adds rows of random bytes until they are `size` bytes together."""
    database = sqlite3.connect(FOLDER / "app.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute("PRAGMA synchronous = OFF")  # nothing of it counts yet
    database.execute("CREATE TABLE IF NOT EXISTS bulk (id INTEGER PRIMARY KEY, content BLOB)")
    have = database.execute("SELECT coalesce(sum(length(content)), 0) FROM bulk").fetchone()[0]
    while have < size:
        database.execute("BEGIN")
        for _ in range(64):
            database.execute("INSERT INTO bulk (content) VALUES (?)", (os.urandom(1 << 20),))
            have += 1 << 20
        database.execute("COMMIT")
    database.close()


def file_writer():
    files = [open(FOLDER / f"log-{number}", "ab", buffering=0) for number in range(FILES)]
    turn = 0
    while True:
        file = files[turn % FILES]
        turn += 1
        if file.tell() >= LONGEST:
            file.truncate(0)
            file.seek(0)
        file.write(os.urandom(BLOCK))
        os.fsync(file.fileno())
        yield


def sqlite_writer():
    database = sqlite3.connect(FOLDER / "app.db", isolation_level=None, timeout=30)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, line BLOB)")
    with closing(database):
        while True:
            database.execute("INSERT INTO log (line) VALUES (randomblob(1000))")
            yield


class Load:
    """Started and stopped by one request at a time."""

    def __init__(self):
        self.thread, self.stopping, self.took = None, threading.Event(), []

    def start(self):
        self.stopping.clear()
        self.took = []
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        with closing({"generic": file_writer, "sqlite": sqlite_writer}[os.environ["KIND"]]()) as writer:
            while not self.stopping.is_set():
                started = time.monotonic()
                next(writer)
                self.took.append(1000 * (time.monotonic() - started))

    def stop(self):
        self.stopping.set()
        if self.thread:
            self.thread.join()
        took = sorted(self.took)
        return {"writes": len(took), **({"median": took[len(took) // 2], "p99": took[len(took) * 99 // 100],
                                        "longest": took[-1]} if took else {})}


LOAD = Load()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        what, argument = (*self.path.split("/"), "")[1:3]
        answer = None
        if what == "start":
            LOAD.start()
        elif what == "stop":
            answer = LOAD.stop()
        elif what == "grow":
            grow_sqlite(int(argument))
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # process 1 has no default action
ThreadingHTTPServer(("", 8080), Handler).serve_forever()
