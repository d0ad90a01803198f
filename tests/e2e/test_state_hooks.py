"""What a service does of its own before a snapshot and after a restore."""

import signal
import subprocess
import time

from vibe_cli import BIN, eventually, get, probe, write_app


def hooked(folder, **hooks):
    return write_app(folder, [probe("web", ["serve", "8080", "hello"], ports=[{"container": 8080}],
                                    stateVolumes=["files:/files"], hooks=hooks)],
                     state={"volumes": [{"name": "files"}]})


def files_of(vibe, project, snapshot=None):
    part = f"snapshots/{snapshot}/state" if snapshot else "current"
    return vibe.inside(f"/run/vibe/data/projects/{project['id']}/{part}/volumes/files")


def is_marked(vibe, project):
    return (vibe.inside(f"/run/vibe/data/projects/{project['id']}/current/runtime/restored")).exists()


def hook_processes(vibe, word):
    return [words for words in vibe.machine_processes().values() if word in words]


def test_one_hook_runs_before_the_snapshot_and_one_after_the_restore(vibe, tmp_path):
    app = hooked(tmp_path / "app", preSave={"command": ["/probe", "write", "/files/flushed", "by the hook"]},
                 postRestore={"command": ["/probe", "remove", "/files/flushed"]})
    project = vibe.open(app, name="hooked")
    saved = vibe.json("save", "hooked")
    assert (files_of(vibe, project, saved["id"]) / "flushed").read_text() == "by the hook"
    assert saved["warnings"] == [] and saved["preSaveMicros"] > 0
    (listed,) = vibe.json("snapshots", "hooked")["snapshots"]
    assert listed["preSaveMicros"] == saved["preSaveMicros"], "the time is not stored"
    (files_of(vibe, project) / "later").write_text("later")

    restored = vibe.json("restore", "hooked", saved["id"])
    assert restored["project"]["status"] == "running" and get(restored["project"]["url"]) == "hello\n"
    assert not list(files_of(vibe, project).iterdir()), "the postRestore hook did not run on the restored data"
    assert not is_marked(vibe, project)

    # A copy is data from such an instant too: its hook runs when it is first started.
    copy = vibe.json("duplicate", "hooked", "copied")
    assert (files_of(vibe, copy) / "flushed").read_text() == "by the hook"
    vibe.open(app, name="copied")
    assert not (files_of(vibe, copy) / "flushed").exists() and not is_marked(vibe, copy)
    for name in ("hooked", "copied"):
        vibe("rm", name, "--yes")


def test_a_hook_before_the_snapshot_that_fails(vibe, tmp_path):
    app = hooked(tmp_path / "app", preSave={"command": ["/probe", "exit", "3", "cannot flush"]})
    project = vibe.open(app, name="failing")
    (files_of(vibe, project) / "file").write_text("as it is")
    error = vibe.fails("save", "failing")
    assert "service web" in error and "exit code 3" in error and "cannot flush" in error
    assert "vibe save failing --skip-hooks" in error
    assert vibe.json("snapshots", "failing")["snapshots"] == [], "saved all the same"
    error = vibe.fails("save", "failing", "-m", "x" * 5000)
    assert "at most 4096 bytes" in error and "exit code 3" not in error, "the hook ran for what is refused anyway"
    assert "exit code 3" in vibe.fails("duplicate", "failing", "never")
    assert vibe.project("never") is None

    result = vibe.run("save", "failing", "--skip-hooks")
    assert result.returncode == 0 and "warning: the preSave hook of service web was not run" in result.stderr
    (saved,) = vibe.json("snapshots", "failing")["snapshots"]
    assert "was not run" in saved["warnings"][0] and saved["preSaveMicros"] < 1_000_000

    # Who wants the data of another day must get it, and the present data must not be lost for it.
    (files_of(vibe, project) / "file").write_text("changed")
    restored = vibe.json("restore", "failing", saved["id"])
    assert (files_of(vibe, project) / "file").read_text() == "as it is"
    (safety, _) = vibe.json("snapshots", "failing")["snapshots"]
    assert safety["id"] == restored["safetySnapshot"]
    assert safety["warnings"] == ["the preSave hook of service web ended with exit code 3"]
    assert (files_of(vibe, project, safety["id"]) / "file").read_text() == "changed"
    assert "ended with exit code 3" in vibe("snapshots", "failing")
    vibe("rm", "failing", "--yes")


def test_a_hook_before_the_snapshot_that_hangs(vibe, tmp_path):
    app = hooked(tmp_path / "app", preSave={"command": ["/probe", "stubborn", "1000"], "timeout": "1s"})
    project = vibe.open(app, name="hanging")
    begun = time.monotonic()
    error = vibe.fails("save", "hanging")
    assert "did not end within 1s and was killed" in error, error
    assert 1 <= time.monotonic() - begun < 15
    assert get(project["url"]) == "hello\n"
    assert not hook_processes(vibe, "stubborn"), "the hook goes on"
    vibe("rm", "hanging", "--yes")


def test_a_save_that_waits_for_a_hook_can_be_broken_off(vibe, tmp_path):
    app = hooked(tmp_path / "app", preSave={"command": ["/probe", "stubborn", "999"], "timeout": "10m"})
    vibe.open(app, name="patient")
    with subprocess.Popen([BIN / "vibe", "save", "patient"], env=vibe.environment, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as save:
        eventually(lambda: hook_processes(vibe, "stubborn 999"), what="the hook")
        save.send_signal(signal.SIGINT)
        assert save.wait(timeout=30) != 0
    eventually(lambda: not hook_processes(vibe, "stubborn 999"), what="the end of the hook")
    assert vibe.json("snapshots", "patient")["snapshots"] == []
    vibe("stop", "patient")  # is not kept waiting
    vibe("rm", "patient", "--yes")


def test_the_hook_of_a_service_that_does_not_run(vibe, tmp_path):
    app = hooked(tmp_path / "app", preSave={"command": ["/probe", "exit", "1"]},
                 postRestore={"command": ["/probe", "write", "/files/restored", "yes"]})
    project = vibe.open(app, name="asleep")
    vibe("stop", "asleep")
    saved = vibe.json("save", "asleep")
    assert saved["warnings"] == ["the preSave hook of service web was not run: the service does not run"]
    restored = vibe.json("restore", "asleep", saved["id"])
    assert restored["project"]["status"] == "stopped" and is_marked(vibe, project)
    vibe("start", "asleep")
    assert (files_of(vibe, project) / "restored").read_text() == "yes", "the hook waits for the first start"
    assert not is_marked(vibe, project)
    vibe("rm", "asleep", "--yes")


def test_a_hook_after_the_restore_that_fails(vibe, tmp_path):
    app = hooked(tmp_path / "app", postRestore={"command": ["/probe", "read", "/files/good"]})
    project = vibe.open(app, name="broken")
    saved = vibe.json("save", "broken")["id"]
    (files_of(vibe, project) / "good").write_text("good")
    error = vibe.fails("restore", "broken", saved)
    (safety, _) = vibe.json("snapshots", "broken")["snapshots"]
    assert "postRestore hook of service web ended with exit code 1" in error and "/files/good" in error
    assert f"vibe restore broken {safety['id']} --no-safety --skip-hooks" in error
    web = vibe.service("broken", "web")
    assert web["status"] == "failed" and "exit code 1" in web["message"]
    assert get(project["url"]) is None, "the app runs with data that is not ready"
    error = vibe.fails("start", "broken")
    assert "exit code 1" in error, "the hook is forgotten"
    assert "vibe restore broken ID --skip-hooks" in error

    vibe("restore", "broken", safety["id"], "--no-safety")
    assert vibe("start", "broken") and get(project["url"]) == "hello\n"
    assert (files_of(vibe, project) / "good").read_text() == "good" and not is_marked(vibe, project)

    restored = vibe.json("restore", "broken", saved, "--skip-hooks")
    assert restored["project"]["status"] == "running" and not is_marked(vibe, project)
    vibe("rm", "broken", "--yes")


def test_a_hook_after_the_restore_runs_though_the_supervisor_died(vibe, tmp_path):
    app = hooked(tmp_path / "app", postRestore={"command": ["/probe", "sleep", "4"]})
    project = vibe.open(app, name="killed")
    saved = vibe.json("save", "killed")["id"]
    with subprocess.Popen([BIN / "vibe", "restore", "killed", saved], env=vibe.environment,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as restore:
        eventually(lambda: hook_processes(vibe, "/probe sleep 4"), timeout=30, what="the hook")
        vibe.kill("vibe-supervisor")
        restore.wait(timeout=60)
    assert is_marked(vibe, project)
    eventually(lambda: not is_marked(vibe, project), timeout=60, what="the hook's second run")
    assert get(project["url"]) == "hello\n"
    vibe("rm", "killed", "--yes")


def test_an_autosave_goes_on_without_its_hook(vibe, tmp_path):
    app = write_app(tmp_path / "app", [probe("web", ["serve", "8080"], ports=[{"container": 8080}],
                                             stateVolumes=["files:/files"],
                                             hooks={"preSave": {"command": ["/no/such/program"]}})],
                    state={"autosave": True, "autosaveDebounceSeconds": 1, "volumes": [{"name": "files"}]})
    vibe.open(app, name="alone")
    (saved, *_) = eventually(lambda: vibe.json("snapshots", "alone")["snapshots"], timeout=60, what="an autosave")
    assert saved["reason"] == "autosave" and "/no/such/program" in saved["warnings"][0]
    vibe("rm", "alone", "--yes")


def test_a_stop_does_not_wait_for_the_hook_of_an_autosave(vibe, tmp_path):
    app = write_app(tmp_path / "app", [probe("web", ["serve", "8080"], ports=[{"container": 8080}],
                                             stateVolumes=["files:/files"],
                                             hooks={"preSave": {"command": ["/probe", "stubborn", "998"], "timeout": "10m"}})],
                    state={"autosave": True, "autosaveDebounceSeconds": 1, "volumes": [{"name": "files"}]})
    vibe.open(app, name="stopped")
    eventually(lambda: hook_processes(vibe, "stubborn 998"), timeout=60, what="the hook of an autosave")
    begun = time.monotonic()
    vibe("stop", "stopped")
    assert time.monotonic() - begun < 25, "the stop waited for the hook"
    assert not hook_processes(vibe, "stubborn 998"), "the hook goes on"
    vibe("rm", "stopped", "--yes")


def test_a_manifest_with_a_bad_hook_is_told_with_its_place(vibe, tmp_path):
    app = hooked(tmp_path / "app", preSave={"command": [], "timeout": "1h"})
    result = vibe.run("validate", app)
    assert result.returncode == 1
    assert "services[0].hooks.preSave.command: needs a program" in result.stdout + result.stderr
    assert "at most 10m" in result.stdout + result.stderr
