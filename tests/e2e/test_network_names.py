"""Names of services, looked up by programs that do not ask the C library of an image: /etc/hosts is all that they need.
The programs lie in the app's files, with the libraries that they want; the image has none."""

import os
import re
import shutil

import pytest

from network_world import SOURCE, addresses_of, run, serving, write_probe_app
from vibe_cli import Failed, get, probe, write_app

GO = shutil.which("go") or ("/usr/local/go/bin/go" if os.path.exists("/usr/local/go/bin/go") else None)

GO_SOURCE = """package main

import (
	"context"
	"fmt"
	"net"
	"os"
)

func main() {
	found, err := (&net.Resolver{PreferGo: true}).LookupHost(context.Background(), os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, address := range found {
		fmt.Println(address)
	}
}
"""

CARES_SOURCE = r"""
#include <ares.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/select.h>

static void Found(void* failed, int status, int timeouts, struct ares_addrinfo* found) {
  (void)timeouts;
  *(int*)failed = status != ARES_SUCCESS;
  for (struct ares_addrinfo_node* node = status == ARES_SUCCESS ? found->nodes : NULL; node != NULL; node = node->ai_next) {
    char text[64];
    const void* address = node->ai_family == AF_INET ? (void*)&((struct sockaddr_in*)node->ai_addr)->sin_addr
                                                     : (void*)&((struct sockaddr_in6*)node->ai_addr)->sin6_addr;
    puts(inet_ntop(node->ai_family, address, text, sizeof text));
  }
}

int main(int argc, char** argv) {
  ares_channel channel;
  int failed = 1;
  struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC};
  if (argc != 2 || ares_library_init(ARES_LIB_INIT_ALL) != 0 || ares_init(&channel) != 0) return 2;
  ares_getaddrinfo(channel, argv[1], NULL, &hints, Found, &failed);
  for (;;) {
    fd_set readable, writable;
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    const int count = ares_fds(channel, &readable, &writable);
    if (count == 0) return failed;
    struct timeval limit = {5, 0}, *wait = ares_timeout(channel, &limit, &limit);
    select(count, &readable, &writable, NULL, wait);
    ares_process(channel, &readable, &writable);
  }
}
"""

NODE_SCRIPT = "require('dns').lookup(process.argv[1], {all: true}, (error, found) => {" \
              "if (error) throw error; for (const {address} of found) console.log(address); })"


def with_libraries(folder, program):
    """The program, its loader and its libraries in a folder of the app's; the words that run it there."""
    target = folder / "lib"
    target.mkdir(exist_ok=True)
    for path in re.findall(r"(/\S+) \(0x", run("ldd", program)):
        shutil.copy(path, target)
    shutil.copy(program, folder)
    loader = next(path.name for path in target.iterdir() if path.name.startswith("ld-linux"))
    return [f"/app/lib/{loader}", "--library-path", "/app/lib", f"/app/{os.path.basename(program)}"]


def make_go(folder):
    (folder / "src").mkdir()
    (folder / "src" / "main.go").write_text(GO_SOURCE)
    environment = {**os.environ, "CGO_ENABLED": "0", "GO111MODULE": "off", "GOFLAGS": "", "GOCACHE": str(folder.parent / "go")}
    run(GO, "build", "-tags", "netgo", "-o", folder / "resolve_go", folder / "src" / "main.go", env=environment)
    return ["/app/resolve_go"]


def make_cares(folder):
    (folder / "cares.c").write_text(CARES_SOURCE)
    run("cc", "-O1", "-static", "-o", folder / "resolve_cares", folder / "cares.c", "-lcares")
    return ["/app/resolve_cares"]


def make_musl(folder):
    run("musl-gcc", "-static", "-O1", "-idirafter", "/usr/include", "-idirafter", f"/usr/include/{os.uname().machine}-linux-gnu",
        "-o", folder / "resolve_musl", SOURCE)
    return ["/app/resolve_musl", "resolve"]


def make_node(folder):
    return [*with_libraries(folder, os.path.realpath(shutil.which("node"))), "-e", NODE_SCRIPT]


# What has to be on this computer to make each; of what tools/setup installs, nothing is left out.
KINDS = {
    # As node's, in an image that has no settings for it.
    "glibc": (lambda folder: ["/app/network_probe", "resolve"], lambda: True),
    "go": (make_go, lambda: GO),
    "cares": (make_cares, lambda: True),
    "musl": (make_musl, lambda: True),
    "node": (make_node, lambda: shutil.which("node")),
}

LONGEST = ".".join(["a" * 63] * 3 + ["b" * 61])


@pytest.fixture(scope="module")
def names(vibe, tmp_path_factory, network_probe):
    """The words that look a name up in the app, by kind; the addresses that each name has."""
    folder = tmp_path_factory.mktemp("names")
    app = write_probe_app(folder / "app", [serving("web", 8080, aliases=["www"]), serving("back", dependsOn=["web"]),
                                           serving("a-b--c", 9001, aliases=["front_end.internal", LONGEST])],
                          network_probe, security={"network": True})
    words = {kind: make(app) for kind, (make, possible) in KINDS.items() if possible()}
    vibe.open(app, name="names")
    services = {"back": "back", "web": "web", "www": "web", "a-b--c": "a-b--c", "front_end.internal": "a-b--c", LONGEST: "a-b--c"}
    return words, {name: list(addresses_of(vibe, "names", service)) for name, service in services.items()}


@pytest.mark.parametrize("granted", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_service_is_found_by_its_name(vibe, names, kind, granted):
    words, planned = names
    if kind not in words:
        pytest.skip(f"nothing on this computer makes a program for {kind}")
    vibe("grant" if granted else "revoke", "names", "network")
    for name, addresses in planned.items():
        found = vibe("exec", "names", "-s", "web", "--", *words[kind], name).split()
        assert found == addresses, f"{name} by {kind}"


def test_an_alias_leads_nowhere_else(vibe, tmp_path, network_probe):
    """Two projects with the same alias find their own service by it; what only one has, the other does not find."""
    for project, more in (("left", "only-left"), ("right", "only-right")):
        app = write_probe_app(tmp_path / project, [serving("web", 8080), serving("db", aliases=["store", more])], network_probe)
        vibe.open(app, name=project)

    def resolve(project, name):
        return vibe("exec", project, "-s", "web", "--", "/app/network_probe", "resolve", name).split()

    assert addresses_of(vibe, "left", "db") != addresses_of(vibe, "right", "db")
    for project, more in (("left", "only-left"), ("right", "only-right")):
        assert resolve(project, "store") == resolve(project, more) == list(addresses_of(vibe, project, "db"))
        with pytest.raises(Failed):
            resolve(project, "only-right" if more == "only-left" else "only-left")


# An image of Debian's packages: glibc, with an /etc/nsswitch.conf of its own and no other of its settings.
LOOK_AROUND = """
import socket
for name in ("db", "store.internal"):
    print(*(entry[4][0] for entry in socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)))
for name in ("host.conf", "nsswitch.conf"):
    print(open("/etc/" + name).read().splitlines())
"""


def test_an_image_keeps_its_own_settings(vibe, tmp_path, network_probe):
    look = {"name": "look", "image": "vibe-examples/python:3.11", "command": ["python3", "-c", LOOK_AROUND], "restart": "no"}
    app = write_probe_app(tmp_path / "debian", [look, serving("db", aliases=["store.internal"])], network_probe,
                          images=("probe", "python"))
    vibe.open(app, name="debian")
    both = " ".join(addresses_of(vibe, "debian", "db"))
    assert vibe("logs", "debian", "-s", "look").splitlines() == [
        both, both, "['multi on']", "['passwd: files', 'group: files', 'hosts: files dns']"]


NGINX_CONFIGURATION = """
daemon off; user root; error_log stderr; pid /tmp/nginx.pid;
events {}
http {
  access_log off;
  %s
  server { listen 8081; location / { proxy_pass http://back:8080; } }
}
""" % " ".join(f"{kind}_temp_path /tmp/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))


def test_nginx_finds_its_upstream_by_name(vibe, tmp_path):
    app = tmp_path / "proxy"
    app.mkdir()
    nginx = with_libraries(app, "/usr/sbin/nginx")
    (app / "nginx.conf").write_text(NGINX_CONFIGURATION)
    write_app(app, [probe("back", ["serve", "8080", "the upstream"]),
                    probe("front", ["-e", "stderr", "-p", "/tmp", "-c", "/app/nginx.conf"], entrypoint=nginx,
                          dependsOn=["back"], ports=[{"container": 8081}])])
    assert get(vibe.open(app, name="proxy")["url"]) == "the upstream\n"


def test_names_are_there_from_the_first_instant(vibe, tmp_path, network_probe):
    """Services that start first find the one that starts last; after a restart too, and by the names that it has then."""

    def services(alias):
        first = [probe(f"first-{number}", ["resolve", name], entrypoint=["/app/network_probe"], restart="no")
                 for number, name in enumerate(("last", alias))]
        return [*first, serving("last", aliases=[alias], dependsOn=["first-0", "first-1"]), serving("web", 8080)]

    def said():
        return [vibe("logs", "order", "-s", f"first-{number}").split() for number in (0, 1)]

    vibe.open(write_probe_app(tmp_path / "order", services("end"), network_probe), name="order")
    planned = list(addresses_of(vibe, "order", "last"))
    assert said() == [planned, planned]
    vibe("restart", "order")
    assert said() == [planned * 2] * 2
    vibe.open(write_probe_app(tmp_path / "order", services("end.internal"), network_probe), name="order")
    assert said() == [planned * 3] * 2
    assert "end" not in vibe("exec", "order", "-s", "web", "--", "/probe", "read", "/etc/hosts").split()
