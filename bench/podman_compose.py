"""The peer: an app under podman-compose, in network and mount namespaces of its own.

Run as a program inside those namespaces, it reads commands, one per line, and answers each with the seconds that it
took until the page answered: up, down, start, stop, quit."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

PORT = 18080


def wait_for_page():
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=5) as response:
                if response.status == 200:
                    return
        except OSError:
            time.sleep(0.002)
    raise TimeoutError("the page does not answer")


def prepare(folder):
    """Podman's own storage and settings below `folder`; returns the environment for it."""
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n')
    (folder / "containers.conf").write_text(
        # Podman's default limits are above what root may set on some computers.
        '[containers]\ndefault_ulimits = ["nofile=16384:16384", "nproc=16384:16384"]\n'
        '[network]\nnetwork_backend = "netavark"\n[engine]\ncgroup_manager = "cgroupfs"\nruntime = "crun"\n')
    (folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    return {**os.environ, "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "CONTAINERS_CONF": str(folder / "containers.conf")}


class PodmanCompose:
    """Owned by the benchmark: starts the program above and talks to it. close() removes everything."""

    def __init__(self, folder, compose, images):
        """`compose` is the app as a Compose document; `images` maps names to OCI layouts."""
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        self.environment = prepare(self.folder)
        (self.folder / "compose.json").write_text(json.dumps(compose))  # JSON is YAML
        (self.folder / "images.json").write_text(json.dumps({name: str(layout) for name, layout in images.items()}))
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--net", "--propagation", "private", "/usr/bin/python3", __file__, str(self.folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment)

    def do(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"podman-compose {command} failed: see {self.folder}/podman.log")
        return float(answer)

    def close(self):
        if self.process.poll() is None:
            self.process.stdin.write("quit\n")
            self.process.stdin.flush()
            self.process.wait(timeout=60)
        subprocess.run(["rm", "-rf", str(self.folder)], check=True)


def serve(folder):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # crun refuses to work where cgroup v2 is mounted beside v1.
    subprocess.run(["sh", "-c", "! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    for name, layout in json.loads((folder / "images.json").read_text()).items():
        subprocess.run(["skopeo", "--policy", str(folder / "policy.json"), "copy", "--quiet",
                        f"oci:{layout}", f"containers-storage:{name}"], check=True)
    log = open(folder / "podman.log", "ab")
    words = {"up": ["up", "-d"], "down": ["down", "-t", "30"], "start": ["start"], "stop": ["stop", "-t", "30"]}
    for line in sys.stdin:
        command = line.strip()
        if command == "quit":
            break
        started = time.monotonic()
        subprocess.run(["podman-compose", "-p", "bench", "-f", str(folder / "compose.json"), *words[command]],
                       stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=True)
        if command in ("up", "start"):
            wait_for_page()
        print(time.monotonic() - started, flush=True)
    subprocess.run(["podman", "rm", "-af", "-t", "0"], stdout=log, stderr=log, check=False)
    subprocess.run(["podman", "volume", "rm", "-af"], stdout=log, stderr=log, check=False)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
