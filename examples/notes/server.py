"""Notes: a page and a JSON API over SQLite."""

import os
import sqlite3
from contextlib import contextmanager
from datetime import datetime, timezone
from http import HTTPStatus
from pathlib import Path

from web import App, Problem, end_on_signals, fields_of, like, serve, text

PORT = 8080
PAGE = 500

SCHEMA = """
CREATE TABLE IF NOT EXISTS notes (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  title      TEXT NOT NULL,
  text       TEXT NOT NULL,
  pinned     INTEGER NOT NULL DEFAULT 0,
  changed_at TEXT NOT NULL
);
"""


class Notes(App):
    def __init__(self, path):
        self.path = path
        with self.transaction() as database:
            database.execute(SCHEMA)

    @contextmanager
    def transaction(self):
        """A connection of its own for each request: opening one is cheap, and none is shared by threads."""
        try:
            database = sqlite3.connect(self.path, timeout=5)
            try:
                database.row_factory = sqlite3.Row
                # Readers do not wait for writers; a commit is on the disk when it returns.
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = FULL")
                with database:
                    yield database
            finally:
                database.close()
        except sqlite3.OperationalError as error:
            print(f"database: {error}")
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"The notes cannot be read or written: {error}.") from error

    def routes(self):
        return [
            ("GET", "/api/notes", self.find),
            ("POST", "/api/notes", self.add),
            ("GET", "/api/notes/([0-9]{1,18})", self.get),
            ("PUT", "/api/notes/([0-9]{1,18})", self.change),
            ("DELETE", "/api/notes/([0-9]{1,18})", self.remove),
        ]

    def ready(self):
        with self.transaction() as database:
            database.execute("SELECT count(*) FROM notes")

    def find(self, _match, query, _body):
        words = [like(word) for word in text(query, "q", 200, "").split()[:10]]
        where = " AND ".join(["title || ' ' || text LIKE ? ESCAPE '\\'"] * len(words)) or "1"
        with self.transaction() as database:
            total = database.execute(f"SELECT count(*) FROM notes WHERE {where}", words).fetchone()[0]
            rows = database.execute(
                f"SELECT * FROM notes WHERE {where} ORDER BY pinned DESC, changed_at DESC, id DESC LIMIT ?", [*words, PAGE]
            ).fetchall()
        return HTTPStatus.OK, {"notes": [self.note(row) for row in rows], "total": total}

    @staticmethod
    def values_of(body):
        fields = fields_of(body)
        pinned = fields.get("pinned", False)
        if not isinstance(pinned, bool):
            raise Problem(HTTPStatus.BAD_REQUEST, "“pinned” must be true or false.")
        values = {
            "title": text(fields, "title", 200, ""),
            "text": text(fields, "text", 20_000, ""),
            "pinned": pinned,
            "changed_at": datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        if not values["title"] and not values["text"]:
            raise Problem(HTTPStatus.BAD_REQUEST, "Write a title or a text.")
        return values

    def add(self, _match, _query, body):
        values = self.values_of(body)
        with self.transaction() as database:
            row = database.execute(
                """INSERT INTO notes (title, text, pinned, changed_at)
                   VALUES (:title, :text, :pinned, :changed_at) RETURNING *""",
                values,
            ).fetchone()
        return HTTPStatus.CREATED, self.note(row)

    def get(self, match, _query, _body):
        with self.transaction() as database:
            row = database.execute("SELECT * FROM notes WHERE id = ?", (int(match[1]),)).fetchone()
        return HTTPStatus.OK, self.note(row)

    def change(self, match, _query, body):
        values = {**self.values_of(body), "id": int(match[1])}
        with self.transaction() as database:
            row = database.execute(
                """UPDATE notes SET title = :title, text = :text, pinned = :pinned, changed_at = :changed_at
                   WHERE id = :id RETURNING *""",
                values,
            ).fetchone()
        return HTTPStatus.OK, self.note(row)

    def remove(self, match, _query, _body):
        with self.transaction() as database:
            row = database.execute("DELETE FROM notes WHERE id = ? RETURNING *", (int(match[1]),)).fetchone()
        self.note(row)
        return HTTPStatus.NO_CONTENT, None

    @staticmethod
    def note(row):
        if row is None:
            raise Problem(HTTPStatus.NOT_FOUND, "There is no such note (any more).")
        return {
            "id": row["id"],
            "title": row["title"],
            "text": row["text"],
            "pinned": bool(row["pinned"]),
            "changedAt": row["changed_at"],
        }


def main():
    end_on_signals()
    serve(Notes(os.environ.get("NOTES_FILE", "/data/notes.db")), PORT, Path(__file__).parent / "page")


if __name__ == "__main__":
    main()
