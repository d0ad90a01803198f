"""The service of test_state_commits.py: writes to Postgres and to SQLite, and says what is committed.

GET /write/SESSION never ends. For n = 1, 2, … it commits n in Postgres, then commits n in SQLite, and then sends a line with n.
GET /mark/N commits N in both. GET /check says what is in both, and what SQLite thinks of its file."""

import json
import os
import signal
import sqlite3
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2

TABLES = ("CREATE TABLE IF NOT EXISTS rows (session text, n integer, filling text, PRIMARY KEY (session, n))",
          "CREATE TABLE IF NOT EXISTS marks (n integer PRIMARY KEY)")
FILLING = "x" * 400  # so that pages fill, and the WAL comes round


def postgres():
    connection = psycopg2.connect("host=db user=commits password=commits dbname=commits")
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("SET synchronous_commit = on")
    return connection, cursor


def sqlite():
    database = sqlite3.connect("/data/commits.db", isolation_level=None, timeout=30)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    return database


def write(session, send):
    connection, cursor = postgres()
    with closing(connection), closing(sqlite()) as database:
        n = 0
        while True:
            n += 1
            cursor.execute("INSERT INTO rows VALUES (%s, %s, %s)", (session, n, FILLING))
            database.execute("INSERT INTO rows VALUES (?, ?, ?)", (session, n, FILLING))
            send(b"%d\n" % n)


def mark(n):
    connection, cursor = postgres()
    with closing(connection), closing(sqlite()) as database:
        cursor.execute("INSERT INTO marks VALUES (%s)", (n,))
        database.execute("INSERT INTO marks VALUES (?)", (n,))


def check():
    rows = "SELECT session, count(*), max(n) FROM rows GROUP BY session"
    marks = "SELECT n FROM marks ORDER BY n"
    connection, cursor = postgres()
    with closing(connection), closing(sqlite()) as database:
        answer = {"sqlite": {session: numbers for session, *numbers in database.execute(rows)},
                  "sqliteMarks": [n for n, in database.execute(marks)],
                  "integrity": database.execute("PRAGMA integrity_check").fetchone()[0]}
        cursor.execute(rows)
        answer["postgres"] = {session: numbers for session, *numbers in cursor.fetchall()}
        cursor.execute(marks)
        answer["postgresMarks"] = [n for n, in cursor.fetchall()]
    return answer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        _, what, argument = (self.path + "/").split("/")[:3]
        if what == "write":
            self.send_response(200)
            self.end_headers()
            write(argument, self.wfile.write)
        body = json.dumps({"mark": lambda: mark(int(argument)), "check": check}[what]()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # process 1 has no default action
connection, cursor = postgres()
with closing(connection), closing(sqlite()) as database:
    for table in TABLES:
        cursor.execute(table)
        database.execute(table)
ThreadingHTTPServer(("", 8080), Handler).serve_forever()
