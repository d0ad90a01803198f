"""Vibe as a user has it: the programs, a home of its own, apps made on the spot."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("VIBE_TEST_BIN_DIR", REPOSITORY / "build" / "bin"))
IMAGES = REPOSITORY / "build" / "images"
EXAMPLES = REPOSITORY / "examples"


def eventually(condition, timeout=20.0, what="it"):
    """Waits until condition() is true, and returns what it gave."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout} s")
        time.sleep(0.05)


def get(url, timeout=5.0):
    """The body of a page, or None when it does not answer with 200."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            return response.read().decode()
    except (OSError, http.client.HTTPException, urllib.error.URLError):
        return None


def post(url, document, timeout=5.0):
    request = urllib.request.Request(
        url, json.dumps(document).encode(), {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=timeout) as response:
        return json.loads(response.read() or "null")


def write_app(folder, services, images=("probe",), **manifest):
    """An app made of `services` that carries the named images of examples/images/build."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    document = {"kind": "vibe.app/v1", "id": "com.example.test", "name": folder.name, "version": "1.0.0",
                "services": services, **manifest}
    (folder / "vibe.yaml").write_text(json.dumps(document, indent=2))  # JSON is YAML
    for image in images:
        target = folder / "images" / image
        if not target.exists():
            shutil.copytree(IMAGES / image, target)
    return folder


def probe(name="web", args=("serve", "8080"), **more):
    """A service that runs the probe image (examples/images/probe)."""
    return {"name": name, "image": "vibe-examples/probe:latest", "command": list(args), **more}


def free_port():
    """A TCP port of 127.0.0.1 that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def read_until(process, text):
    """What a process prints, as far as `text` in it."""
    said = ""
    while text not in said:
        line = process.stdout.readline()
        assert line, f"it ended without {text!r}: {said}"
        said += line
    return said


def _words(pid):
    """The command line of a process; one empty word when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return [""]


class Failed(Exception):
    """vibe ended with a code other than 0."""

    def __init__(self, result):
        super().__init__(f"vibe ended with {result.returncode}\nstdout: {result.stdout}\nstderr: {result.stderr}")
        self.code = result.returncode
        self.out = result.stdout
        self.err = result.stderr


class Vibe:
    """One home of Vibe. close() ends everything that runs for it."""

    def __init__(self, home, machine="native", programs=BIN):
        self.home, self.programs = Path(home), programs
        self.environment = {**os.environ, "VIBE_HOME": str(self.home), "VIBE_MACHINE": machine, "NO_COLOR": "1"}

    # ---- the commands ----

    def run(self, *args, timeout=120, stdin=subprocess.DEVNULL):
        return subprocess.run([str(self.programs / "vibe"), *map(str, args)], env=self.environment, stdin=stdin,
                              capture_output=True, text=True, timeout=timeout)

    def begin(self, *args):
        """The command as a process of its own; what it prints, errors too, is its stdout."""
        return subprocess.Popen([str(self.programs / "vibe"), *map(str, args)], env=self.environment, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def __call__(self, *args, timeout=120):
        result = self.run(*args, timeout=timeout)
        if result.returncode != 0:
            raise Failed(result)
        return result.stdout

    def json(self, *args, timeout=120):
        return json.loads(self(*args, "--json", timeout=timeout))

    def fails(self, *args, timeout=120):
        """The error that a command is expected to end with."""
        result = self.run(*args, timeout=timeout)
        assert result.returncode == 1, f"ended with {result.returncode}: {result.stdout}{result.stderr}"
        start = ("\n" + result.stderr).find("\nerror: ")  # after the progress
        assert start >= 0, result.stderr
        return result.stderr[start:]

    def open(self, path, name=None, timeout=180):
        return self.json("open", path, "--yes", *(["--name", name] if name else []), timeout=timeout)

    def project(self, name):
        projects = self.json("ps")["projects"]
        return next((project for project in projects if project["name"] == name), None)

    def service(self, project, name):
        return next(service for service in self.project(project)["services"] if service["name"] == name)

    # ---- what runs behind them ----

    def inside(self, path):
        """A path of the machine, as this process reaches it."""
        return Path(f"/proc/{self.machine_init()}/root") / str(path).lstrip("/")

    def vibed(self):
        """The pid of vibed, or None."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(5)
            connection.connect(str(self.home / "vibed.sock"))
            connection.sendall(b"GET /v1/version HTTP/1.1\r\nHost: vibed\r\nConnection: close\r\n\r\n")
            answer = b""
            while chunk := connection.recv(4096):
                answer += chunk
        except OSError:
            return None
        finally:
            connection.close()
        return json.loads(answer[answer.index(b"\r\n\r\n") + 4:])["pid"]

    def machine_process(self, program):
        """The pid of a program of this home's machine on the host, such as qemu-system; None when it does not run."""
        for entry in Path("/proc").iterdir():
            try:
                if (entry.name.isdigit() and str(self.home) in (entry / "cmdline").read_text()
                        and program in os.readlink(entry / "exe")):
                    return int(entry.name)
            except OSError:
                continue  # it ended just now
        return None

    def machine_init(self):
        """The pid, as the host sees it, of the machine's process 1; None when it does not run."""
        try:
            host_half = int((self.home / "machine" / "native" / "pid").read_text().split()[0])
            children = Path(f"/proc/{host_half}/task/{host_half}/children").read_text().split()
        except (OSError, ValueError, IndexError):
            return None
        return next((int(child) for child in children if _words(child)[0].endswith("vibe-native-init")), None)

    def machine_processes(self, program=None):
        """pid to command line of what runs in the machine and its containers, or of one program there; without what that
        program started of itself, as the supervisor does to look into a database."""
        init = self.machine_init()
        if init is None:
            return {}
        children = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit():
                    parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                    children.setdefault(parent, []).append(int(entry.name))
            except OSError:
                continue  # it ended just now
        found, left = {}, [(init, None)]
        while left:
            pid, parent = left.pop()
            left += [(child, pid) for child in children.get(pid, [])]
            words = _words(pid)
            if program is None or (os.path.basename(words[0]) == program and parent not in found):
                found[pid] = " ".join(words)
        return found

    def kill(self, program):
        """SIGKILL for one program of the machine; returns its pid."""
        pids = list(self.machine_processes(program))
        assert len(pids) == 1, f"{program}: {pids}"
        os.kill(pids[0], signal.SIGKILL)
        return pids[0]

    def kill_vibed(self, number=signal.SIGKILL):
        pid = self.vibed()
        if pid is not None:
            os.kill(pid, number)
            eventually(lambda: not Path(f"/proc/{pid}").exists(), what="the end of vibed")
        return pid

    def close(self):
        if self.vibed() is not None:
            self.run("machine", "stop", timeout=90)
        self.kill_vibed(signal.SIGTERM)
