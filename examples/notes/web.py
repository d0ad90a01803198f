"""The HTTP side of a small app: files of the page, a JSON API, limits, a quick and clean end.

Standard library only. An app subclasses App; everything that a request raises becomes an answer.
"""

import json
import os
import re
import signal
import socket
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

MAX_BODY = 64 * 1024
MAX_CONNECTIONS = 128
IDLE_SECONDS = 30
# What a browser on this computer calls the app, or another service of it by this one's name; with any port.
OWN_HOST = re.compile(
    rf"(localhost|([a-z0-9_-]+\.)+localhost|127\.0\.0\.1|\[::1\]|{re.escape(socket.gethostname().lower())})(:[0-9]+)?")
# A request that runs when the signal to end comes may take this long to finish.
GRACE_SECONDS = 2

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Problem(Exception):
    """An answer other than success: what went wrong, in words for a person."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status
        self.message = message


class App:
    """What an app does. Called from many threads at once."""

    def routes(self):
        """[(method, pattern of the path, function(match, query, body) -> (status, value))]"""
        raise NotImplementedError

    def ready(self):
        """Raises a Problem when requests cannot be served."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port, app, static):
        self.address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        self.app = app
        self.routes = [(method, re.compile(path), call) for method, path, call in app.routes()]
        # Read once: the page is small, and no request can name another file.
        self.files = {
            "/" + file.name: (TYPES[file.suffix], file.read_bytes()) for file in Path(static).iterdir()
        }
        self.files["/"] = self.files["/index.html"]
        self.slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self.idle = threading.Condition()
        self.busy = 0
        super().__init__(("::" if self.address_family == socket.AF_INET6 else "", port), Handler)

    def server_bind(self):
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Not HTTPServer's, which looks up the host's name and may wait for a name server.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def process_request(self, request, client_address):
        self.slots.acquire()  # pylint: disable=consider-using-with
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.slots.release()

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)

    def wait_idle(self):
        with self.idle:
            self.idle.wait_for(lambda: self.busy == 0, GRACE_SECONDS)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "vibe-example"
    sys_version = ""
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True

    def answer(self):
        started = time.monotonic()
        server = self.server
        with server.idle:
            server.busy += 1
        try:
            status, kind, content = self.respond()
            self.send(status, kind, content)
        finally:
            with server.idle:
                server.busy -= 1
                server.idle.notify_all()
        if self.path != "/healthz":
            print(f"{self.command} {self.path} {int(status)} {(time.monotonic() - started) * 1000:.1f} ms")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 (the base class's names)

    def respond(self):
        """(status, content type, bytes)"""
        try:
            body = self.read_body()
            self.check_origin()
            target = urlsplit(self.path)
            method = "GET" if self.command == "HEAD" else self.command
            if method == "GET" and target.path in self.server.files:
                return (HTTPStatus.OK, *self.server.files[target.path])
            status, value = self.route(method, target, body)
        except Problem as problem:
            status, value = problem.status, {"error": problem.message}
        except Exception:  # pylint: disable=broad-except
            self.server.handle_error(self.request, self.client_address)
            status, value = HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "Something went wrong; the log says more."}
        if value is None:
            return status, None, b""
        return status, "application/json", json.dumps(value, ensure_ascii=False).encode() + b"\n"

    def route(self, method, target, body):
        if target.path == "/healthz" and method == "GET":
            self.server.app.ready()
            return HTTPStatus.OK, {"status": "ok"}
        allowed = False
        for route_method, pattern, call in self.server.routes:
            match = pattern.fullmatch(target.path)
            if match and route_method == method:
                query = {name: values[0] for name, values in parse_qs(target.query, max_num_fields=20).items()}
                return call(match, query, body)
            allowed = allowed or match
        if allowed:
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, f"{method} is not possible here.")
        raise Problem(HTTPStatus.NOT_FOUND, "There is nothing here.")

    def read_body(self):
        """The JSON value of the request; None without a body."""
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise Problem(HTTPStatus.LENGTH_REQUIRED, "Send the length of the body.")
        length = self.headers.get("Content-Length", "0")
        if not re.fullmatch(r"[0-9]{1,9}", length):
            self.close_connection = True
            raise Problem(HTTPStatus.BAD_REQUEST, "Content-Length is not a number.")
        if int(length) > MAX_BODY:
            self.close_connection = True  # what follows is not read
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"That is more than {MAX_BODY // 1024} KiB.")
        body = self.rfile.read(int(length))
        if not body:
            return None
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise Problem(HTTPStatus.BAD_REQUEST, "The body is not JSON.") from None

    def check_origin(self):
        """Another site's page must neither read nor change anything here in its visitor's name.

        Its own name may lead to this computer as well (DNS rebinding). Then the browser sees one site, and only Host
        gives it away. Programs that are no browsers send no Origin.
        """
        host = self.headers.get("Host", "").lower()
        if not OWN_HOST.fullmatch(host):
            raise Problem(HTTPStatus.FORBIDDEN, "This app answers at localhost and NAME.localhost only.")
        origin = self.headers.get("Origin")
        if origin is not None and self.command not in ("GET", "HEAD") and origin.lower() != f"http://{host}":
            raise Problem(HTTPStatus.FORBIDDEN, "Requests from other sites are refused.")

    def send(self, status, kind, content):
        self.send_response_only(status)
        self.send_header("Date", self.date_time_string())
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Content-Security-Policy", "default-src 'self'; base-uri 'none'; frame-ancestors 'self'")
        self.send_header("Referrer-Policy", "no-referrer")
        if kind:
            self.send_header("Content-Type", kind)
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format, *args):  # pylint: disable=redefined-builtin
        pass  # answer() writes the log, with the time taken


def text(fields, name, most, default=None):
    """A text field of a JSON object, without the space around it. `default` None: it must be there."""
    value = fields.get(name, default)
    if value is None:
        raise Problem(HTTPStatus.BAD_REQUEST, f"“{name}” is missing.")
    if not isinstance(value, str):
        raise Problem(HTTPStatus.BAD_REQUEST, f"“{name}” must be text.")
    if len(value) > most:
        raise Problem(HTTPStatus.BAD_REQUEST, f"“{name}” is longer than {most} characters.")
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise Problem(HTTPStatus.BAD_REQUEST, f"“{name}” holds characters that cannot be stored.")
    return value.strip()


def fields_of(body):
    if not isinstance(body, dict):
        raise Problem(HTTPStatus.BAD_REQUEST, "Send a JSON object.")
    return body


def like(search):
    """A pattern for LIKE … ESCAPE '\\' that finds the text anywhere."""
    return "%" + re.sub(r"([\\%_])", r"\\\1", search) + "%"


def end_on_signals():
    """SIGTERM and SIGINT raise SystemExit. Process 1 of a container would otherwise never see them."""

    def end(_number, _frame):
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)


def serve(app, port, static):
    """Serves until a signal comes; does not return."""
    server = Server(port, app, static)
    print(f"listening on port {port}")
    try:
        server.serve_forever()
    except SystemExit:
        server.wait_idle()
    print("stopped")
    sys.stdout.flush()
    os._exit(0)  # without waiting for connections that are open but idle
