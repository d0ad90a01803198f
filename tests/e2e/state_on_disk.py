"""A project's state and its snapshots as docs/formats/state.md has them, read without any of Vibe's programs."""

import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

from vibe_cli import eventually

BLOCK = 64 << 10
PROJECT = {"current", "snapshots", "staging", "index.json"}


def _number(value, size):
    return value.to_bytes(size, "little")


def _bytes(value):
    return _number(len(value), 8) + value


def _content(path, size):
    digest = hashlib.sha256(b"vibe-content-1\n" + _number(size, 8))
    with open(path, "rb") as file:
        for number in range((size + BLOCK - 1) // BLOCK):
            block = file.read(BLOCK)
            if block.strip(b"\0"):
                digest.update(_number(number, 8) + block)
    return digest.digest()


def _tree(root, leave_out=frozenset()):
    digest, first, entries = hashlib.sha256(b"vibe-tree-1\n"), {}, 0

    def common(kind, name, path, inode):
        names = sorted(os.fsencode(attribute) for attribute in os.listxattr(path, follow_symlinks=False))
        digest.update(kind + _bytes(name) + _number(stat.S_IMODE(inode.st_mode), 4) + _number(inode.st_uid, 4)
                      + _number(inode.st_gid, 4) + _number(len(names), 4))
        for attribute in names:
            digest.update(_bytes(attribute) + _bytes(os.getxattr(path, attribute, follow_symlinks=False)))

    def folder(path, name, inode):
        nonlocal entries
        common(b"d", name, path, inode)
        for child in sorted(os.listdir(path)):
            where = os.path.join(path, child)
            inode = os.lstat(where)
            if where in leave_out or stat.S_ISSOCK(inode.st_mode) or stat.S_ISFIFO(inode.st_mode):
                continue
            entries += 1
            if stat.S_ISDIR(inode.st_mode):
                folder(where, child, inode)
                continue
            if inode.st_nlink > 1:
                if inode.st_ino in first:
                    digest.update(b"h" + _bytes(child) + _number(first[inode.st_ino], 8))
                    continue
                first[inode.st_ino] = entries
            if stat.S_ISREG(inode.st_mode):
                common(b"f", child, where, inode)
                digest.update(_number(inode.st_size, 8))
                if inode.st_size:
                    digest.update(_content(where, inode.st_size))
            elif stat.S_ISLNK(inode.st_mode):
                common(b"l", child, where, inode)
                digest.update(_bytes(os.readlink(where)))
            else:
                common(b"c" if stat.S_ISCHR(inode.st_mode) else b"b", child, where, inode)
                digest.update(_number(os.major(inode.st_rdev), 4) + _number(os.minor(inode.st_rdev), 4))
        digest.update(b"u")

    root = os.fsencode(root)
    folder(root, b"", os.lstat(root))
    return f"sha256:{digest.hexdigest()}".encode()


def state_digest(state):
    """What metadata.json calls stateDigest."""
    volumes = Path(state) / "volumes"
    found = sorted(os.fsencode(entry.path) for entry in os.scandir(volumes) if entry.is_dir(follow_symlinks=False)
                   ) if volumes.is_dir() else []
    digest = hashlib.sha256(b"vibe-state-1\n" + _bytes(_tree(state, frozenset(found))) + _number(len(found), 8))
    for path in found:
        digest.update(_bytes(os.path.basename(path)) + _bytes(_tree(path)))
    return f"sha256:{digest.hexdigest()}"


def subvolumes(data):
    """Those below projects/, as paths."""
    out = subprocess.run(["btrfs", "subvolume", "list", data], check=True, capture_output=True, text=True).stdout
    paths = {line.split(" path ", 1)[1] for line in out.splitlines()}
    return {path for path in paths if "projects/" in path}


def records(data):
    """id to name of the projects that the supervisor knows."""
    with tempfile.TemporaryDirectory() as folder:  # SQLite does not find its way through /proc
        for file in data.glob("supervisor.db*"):
            shutil.copy(file, folder)
        with closing(sqlite3.connect(f"{folder}/supervisor.db")) as database:
            return dict(database.execute("SELECT id, name FROM projects"))


def check_data(data, library):
    """Everything is whole and nothing is left over, of projects that are in no operation. `library` is id to name of those
    that vibed knows. The complete snapshots' metadata by project and id."""
    data = Path(data)
    known = records(data)
    assert known == library, "vibed and the supervisor do not agree on the projects"
    folders = {entry.name for entry in (data / "projects").iterdir()}
    assert folders == set(known), "a folder without a project, or a project without a folder"
    assert not list((data / "duplicating").iterdir()) if (data / "duplicating").exists() else True
    expected, snapshots = set(), {}
    for project in known:
        folder = data / "projects" / project
        left = {entry.name for entry in folder.iterdir()} - PROJECT
        assert not left, f"left in {project}: {left}"
        eventually(lambda: not (folder / "staging").exists() or not os.listdir(folder / "staging"),
                   what=f"an empty staging/ of {project}")
        check_lock(folder)
        expected.add(f"projects/{project}/current")
        snapshots[project] = {}
        index = folder / "index.json"
        listed = json.loads(index.read_text())["snapshots"] if index.exists() else []
        there = os.listdir(folder / "snapshots") if (folder / "snapshots").exists() else []
        assert sorted(listed) == sorted(there), "listed and present are not the same"
        for snapshot in listed:
            expected.add(f"projects/{project}/snapshots/{snapshot}/state")
            place = folder / "snapshots" / snapshot
            assert set(os.listdir(place)) <= {"state", "metadata.json", "dumps"}, os.listdir(place)
            metadata = json.loads((place / "metadata.json").read_text())
            assert metadata["snapshotId"] == snapshot and metadata["projectId"] == project
            assert metadata["complete"], f"{snapshot} is not complete"
            assert metadata["stateDigest"] == state_digest(place / "state"), f"{snapshot} is not what it was"
            snapshots[project][snapshot] = metadata
    found = subvolumes(data)
    assert found == expected, f"orphans: {found - expected}, missing: {expected - found}"
    return snapshots


def check_lock(folder):
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(handle)
