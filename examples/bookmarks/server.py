"""Bookmarks: a page and a JSON API over PostgreSQL."""

import os
import queue
import re
import time
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import psycopg2.extras

from web import App, Problem, end_on_signals, fields_of, like, serve, text

PORT = 8080
CONNECTIONS = 8
PAGE = 100
MAX_TAGS = 20

SCHEMA = """
CREATE TABLE IF NOT EXISTS bookmarks (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  url        text NOT NULL UNIQUE,
  title      text NOT NULL,
  note       text NOT NULL DEFAULT '',
  tags       text[] NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS bookmarks_tags ON bookmarks USING gin (tags);
"""

COLUMNS = """id, url, title, note, tags, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "createdAt" """


class Database:
    """A few connections that are made when needed and made anew when they broke."""

    def __init__(self, **where):
        self.where = where
        self.spare = queue.LifoQueue()  # connections, or None for one still to be made
        for _ in range(CONNECTIONS):
            self.spare.put(None)

    def connect(self):
        connection = psycopg2.connect(connect_timeout=3, application_name="bookmarks", **self.where)
        with connection, connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = '10s'")
        return connection

    @contextmanager
    def transaction(self):
        """A cursor; commits at the end, and rolls back after an error."""
        try:
            connection = self.spare.get(timeout=5)
        except queue.Empty:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "Too much is going on. Try again in a moment.") from None
        try:
            connection = self.living(connection)
            with connection, connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
                yield cursor
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            print(f"database: {str(error).strip()}")
            if connection:
                connection.close()
            connection = None
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "The database does not answer. Try again in a moment.") from error
        finally:
            self.spare.put(connection)

    def living(self, connection):
        """The connection, or a new one when the server went away since it was used last."""
        if connection:
            try:
                with connection, connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
                return connection
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                connection.close()
        return self.connect()

    def prepare(self):
        """Waits until the database answers, then makes the table."""
        last = None
        while True:
            try:
                connection = self.connect()
                break
            except psycopg2.OperationalError as error:
                if str(error) != last:
                    last = str(error)
                    print(f"waiting for the database: {last.strip()}")
                time.sleep(0.2)
        with connection, connection.cursor() as cursor:
            # Two copies that start at once would otherwise both try to make it.
            cursor.execute("SELECT pg_advisory_xact_lock(20240101)")
            cursor.execute(SCHEMA)
        self.spare.get()
        self.spare.put(connection)


def tags_of(value):
    """Tags, from a list or from one text with commas: lower case, each once."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise Problem(HTTPStatus.BAD_REQUEST, "“tags” must be a list of texts.")
    tags = []
    for tag in value:
        tag = text({"tags": " ".join(tag.split()).lower().lstrip("#")}, "tags", 40)
        if tag and tag not in tags:
            tags.append(tag)
    if len(tags) > MAX_TAGS:
        raise Problem(HTTPStatus.BAD_REQUEST, f"More than {MAX_TAGS} tags.")
    return tags


def url_of(fields):
    url = text(fields, "url", 2048)
    if url and not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", url):
        url = "https://" + url
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port  # raises when it is no number
    except ValueError:
        host = None
    # Other schemes (javascript:) would run when the link is followed.
    if not host or parts.scheme not in ("http", "https") or re.search(r"\s", url):
        raise Problem(HTTPStatus.BAD_REQUEST, "“url” is not a web address, such as https://example.com.")
    return url, host


class Bookmarks(App):
    def __init__(self, database):
        self.database = database

    def routes(self):
        return [
            ("GET", "/api/bookmarks", self.find),
            ("POST", "/api/bookmarks", self.add),
            ("GET", "/api/bookmarks/([0-9]{1,18})", self.get),
            ("PUT", "/api/bookmarks/([0-9]{1,18})", self.change),
            ("DELETE", "/api/bookmarks/([0-9]{1,18})", self.remove),
        ]

    def ready(self):
        with self.database.transaction() as cursor:
            cursor.execute("SELECT 1")

    def find(self, _match, query, _body):
        offset = query.get("offset", "0")
        if not re.fullmatch("[0-9]{1,9}", offset):
            raise Problem(HTTPStatus.BAD_REQUEST, "“offset” must be a number.")
        values = {
            "words": [like(word) for word in text(query, "q", 200, "").split()[:10]],
            "tag": text(query, "tag", 40, ""),
            "page": PAGE,
            "offset": int(offset),
        }
        where = """WHERE (title || ' ' || url || ' ' || note || ' ' || array_to_string(tags, ' ')) ILIKE ALL (%(words)s::text[])
                   AND (%(tag)s = '' OR tags @> ARRAY[%(tag)s])"""
        with self.database.transaction() as cursor:
            cursor.execute(f"SELECT count(*) AS total FROM bookmarks {where}", values)
            total = cursor.fetchone()["total"]
            cursor.execute(
                f"SELECT {COLUMNS} FROM bookmarks {where} ORDER BY id DESC LIMIT %(page)s OFFSET %(offset)s", values
            )
            found = cursor.fetchall()
            cursor.execute(
                "SELECT tag AS name, count(*) AS count FROM bookmarks, unnest(tags) AS tag GROUP BY tag ORDER BY tag LIMIT 500"
            )
            tags = cursor.fetchall()
        return HTTPStatus.OK, {"bookmarks": found, "total": total, "tags": tags}

    def values_of(self, body):
        fields = fields_of(body)
        url, host = url_of(fields)
        return {
            "url": url,
            "title": text(fields, "title", 300, "") or host,
            "note": text(fields, "note", 4000, ""),
            "tags": tags_of(fields.get("tags", [])),
        }

    def add(self, _match, _query, body):
        values = self.values_of(body)
        with self.unique(), self.database.transaction() as cursor:
            cursor.execute(
                f"""INSERT INTO bookmarks (url, title, note, tags)
                    VALUES (%(url)s, %(title)s, %(note)s, %(tags)s::text[]) RETURNING {COLUMNS}""",
                values,
            )
            return HTTPStatus.CREATED, cursor.fetchone()

    def get(self, match, _query, _body):
        with self.database.transaction() as cursor:
            cursor.execute(f"SELECT {COLUMNS} FROM bookmarks WHERE id = %s", (int(match[1]),))
            return HTTPStatus.OK, self.there(cursor.fetchone())

    def change(self, match, _query, body):
        values = {**self.values_of(body), "id": int(match[1])}
        with self.unique(), self.database.transaction() as cursor:
            cursor.execute(
                f"""UPDATE bookmarks SET url = %(url)s, title = %(title)s, note = %(note)s, tags = %(tags)s::text[]
                    WHERE id = %(id)s RETURNING {COLUMNS}""",
                values,
            )
            return HTTPStatus.OK, self.there(cursor.fetchone())

    def remove(self, match, _query, _body):
        with self.database.transaction() as cursor:
            cursor.execute("DELETE FROM bookmarks WHERE id = %s RETURNING id", (int(match[1]),))
            self.there(cursor.fetchone())
        return HTTPStatus.NO_CONTENT, None

    @staticmethod
    def there(row):
        if row is None:
            raise Problem(HTTPStatus.NOT_FOUND, "There is no such bookmark (any more).")
        return row

    @staticmethod
    @contextmanager
    def unique():
        try:
            yield
        except psycopg2.errors.UniqueViolation:
            raise Problem(HTTPStatus.CONFLICT, "That address is among your bookmarks already.") from None


def main():
    end_on_signals()
    database = Database(
        host=os.environ.get("DATABASE_HOST", "db"),
        dbname=os.environ.get("DATABASE_NAME", "bookmarks"),
        user=os.environ.get("DATABASE_USER", "bookmarks"),
        password=os.environ.get("DATABASE_PASSWORD", ""),
    )
    database.prepare()
    serve(Bookmarks(database), PORT, Path(__file__).parent / "page")


if __name__ == "__main__":
    main()
