"""The main promise: open a real app, use it, stop it, start it, and the data is there."""

import http.client
import json
import urllib.request
from urllib.parse import urlsplit

import pytest

from vibe_cli import EXAMPLES, get, post


def titles(url):
    return {bookmark["title"] for bookmark in json.loads(get(f"{url}/api/bookmarks"))["bookmarks"]}


@pytest.fixture(scope="module")
def bookmarks(vibe):
    return vibe.open(EXAMPLES / "bookmarks")


def test_open_answers_with_an_address_that_works(bookmarks):
    assert bookmarks["status"] == "running"
    assert bookmarks["url"].startswith("http://localhost:")
    assert "<html" in get(bookmarks["url"])
    by_name = {service["name"]: service for service in bookmarks["services"]}
    assert set(by_name) == {"web", "db"}
    for service in by_name.values():
        assert service["status"] == "running" and service["containerId"] and service["startedAt"]
        assert service["restartCount"] == 0
    (port,) = [port for port in by_name["web"]["ports"] if port["hostPort"]]
    assert bookmarks["url"] == f"http://localhost:{port['hostPort']}"
    assert port["protocol"] == "tcp"


def test_a_bookmark_survives_stop_and_start_at_the_same_address(vibe, bookmarks):
    post(f"{bookmarks['url']}/api/bookmarks", {"url": "https://example.com/", "title": "kept"})
    stopped = vibe.json("stop", "bookmarks")
    assert stopped["status"] == "stopped"
    assert get(bookmarks["url"]) is None, "a stopped app still answers"
    started = vibe.json("start", "bookmarks")
    assert started["url"] == bookmarks["url"]
    assert "kept" in titles(started["url"])


def test_open_twice_is_harmless(vibe, bookmarks):
    before = vibe.project("bookmarks")
    again = vibe.open(EXAMPLES / "bookmarks")
    assert again["id"] == before["id"]
    assert again["services"] == before["services"], "an open project was started again"


def test_two_copies_do_not_mix(vibe, bookmarks):
    second = vibe.open(EXAMPLES / "bookmarks", name="second")
    assert second["url"] != bookmarks["url"]
    post(f"{second['url']}/api/bookmarks", {"url": "https://example.org/", "title": "only in the second"})
    post(f"{bookmarks['url']}/api/bookmarks", {"url": "https://example.net/", "title": "only in the first"})
    assert "only in the second" in titles(second["url"]) and "only in the first" not in titles(second["url"])
    assert "only in the first" in titles(bookmarks["url"]) and "only in the second" not in titles(bookmarks["url"])

    get(f"{second['url']}/?in-the-logs-of-the-second")
    seen = [line["text"] for line in vibe.json("logs", "second", "-s", "web", "-n", "1000")["lines"]]
    assert any("in-the-logs-of-the-second" in line for line in seen), seen
    assert "in-the-logs-of-the-second" not in vibe("logs", "bookmarks", "-n", "1000")

    vibe("rm", "second", "--yes")
    assert vibe.project("second") is None
    assert "only in the first" in titles(bookmarks["url"]), "removing one copy took the other one's data"


def test_removed_app_comes_back_empty(vibe, bookmarks):
    vibe("rm", "bookmarks", "--yes")
    opened = vibe.open(EXAMPLES / "bookmarks")
    assert titles(opened["url"]) == set()


def test_notes_keeps_its_notes(vibe):
    notes = vibe.open(EXAMPLES / "notes")
    assert "<html" in get(notes["url"])
    created = post(f"{notes['url']}/api/notes", {"title": "milk", "body": "two bottles"})
    vibe("restart", "notes")
    with urllib.request.urlopen(f"{notes['url']}/api/notes") as response:
        assert created["id"] in [note["id"] for note in json.load(response)["notes"]]


def answer(url, method, path, headers, body=None):
    """(status, text) of a request with exactly these headers, Host among them."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_another_site_cannot_use_the_notes_of_its_visitor(vibe):
    url = vibe.open(EXAMPLES / "notes")["url"]
    port = urlsplit(url).port
    note = json.dumps({"title": "from another site", "text": ""})
    text = {"Content-Type": "text/plain"}  # which a browser sends to another site without asking it first

    # Its own name led to 127.0.0.1: the browser takes both for one site.
    for host in ("evil.example", "evil.example:80", f"localhost.evil.example:{port}", f"evillocalhost:{port}", ""):
        status, said = answer(url, "GET", "/api/notes", {"Host": host})
        assert status == 403 and "localhost" in said, f"the notes can be read as {host!r}: {status} {said}"
        status, _ = answer(url, "POST", "/api/notes", {**text, "Host": host, "Origin": f"http://{host}"}, note)
        assert status == 403, f"notes can be written as {host!r}"
    # Its page sends a form to the app's address.
    for origin in ("http://evil.example", f"http://localhost:{port + 1}", f"https://localhost:{port}", "null", ""):
        status, said = answer(url, "POST", "/api/notes", {**text, "Host": f"localhost:{port}", "Origin": origin}, note)
        assert status == 403 and "other sites" in said, f"a page of {origin!r} can write notes"
    assert "from another site" not in get(f"{url}/api/notes")

    # The app's own page, by each of its names, programs, and other services of the app.
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", f"Notes.localhost:{port}", "localhost",
                 "web:8080"):
        assert answer(url, "GET", "/", {"Host": host})[0] == 200, host
        for origin in ({}, {"Origin": f"http://{host.lower()}"}):
            status, said = answer(url, "POST", "/api/notes", {**text, "Host": host, **origin}, note)
            assert status == 201, f"{host} {origin}: {said}"
