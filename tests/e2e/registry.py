"""Debian's docker-registry on a free port of loopback."""

import socket
import subprocess
import time
from pathlib import Path

from vibe_cli import free_port

CONFIG = """version: 0.1
log: {{level: info, accesslog: {{disabled: false}}}}
storage:
  filesystem: {{rootdirectory: {folder}/storage}}
http: {{addr: "127.0.0.1:{port}"}}
"""


class Registry:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.port = free_port()
        (self.folder / "config.yml").write_text(CONFIG.format(folder=self.folder, port=self.port))
        self.log = self.folder / "registry.log"
        self.process = None
        self.start()

    @property
    def host(self):
        return f"localhost:{self.port}"

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", str(self.folder / "config.yml")],
                                            stdout=log, stderr=log)
        for _ in range(200):
            with socket.socket() as connection:
                if connection.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError(f"the registry did not start: {self.log.read_text()}")

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def push(self, layout, reference):
        subprocess.run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{layout}:{reference}",
                        f"docker://127.0.0.1:{self.port}/{reference}"], check=True)

    def blobs(self):
        """digest to file of everything that is stored."""
        return {f"sha256:{path.parent.name}": path
                for path in (self.folder / "storage").glob("docker/registry/v2/blobs/sha256/*/*/data")}

    def fetched(self, digest):
        """How often a blob's bytes were asked for."""
        return sum(1 for line in self.log.read_text().splitlines() if f"GET /v2/" in line and f"/blobs/{digest}" in line)
