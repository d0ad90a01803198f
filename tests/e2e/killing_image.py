"""The VM's image, and in it a process that kills what an app asks for (killing_init.c)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from vibe_cli import BIN, REPOSITORY

sys.path.append(str(REPOSITORY / "vm-image"))
from vmimage.cpio import write_cpio  # noqa: E402
from vmimage.elf import strip_program  # noqa: E402
from vmimage.tree import Tree  # noqa: E402

SOURCE = Path(__file__).resolve().parent / "killing_init.c"


def _file(archive, name):
    """The bytes of a file in a newc archive."""
    at = 0
    while archive[at:at + 6] == b"070701":
        size, name_size = (int(archive[at + 6 + 8 * field:at + 14 + 8 * field], 16) for field in (6, 11))
        data = (at + 110 + name_size + 3) // 4 * 4
        if archive[at + 110:at + 110 + name_size] == name + b"\0":
            return archive[data:data + size]
        at = (data + size + 3) // 4 * 4
    raise LookupError(f"{name} is not in the initrd")


def make_killing_image(folder, supervisor=None, program=None):
    """Makes it in a folder. All programs of the image are those that users have: the kernel unpacks a second archive
    over it, which has one more program, and the first process under another name; and a `supervisor` in the place of
    the image's and a `program` that apps can have run, if such are given."""
    shipped = Path(os.environ.get("VIBE_VM_IMAGE") or BIN.parent / "vm")
    killing_init = folder / "killing_init"
    subprocess.run(["cc", "-static", "-Os", "-Wall", "-Wextra", "-Werror", "-o", str(killing_init), str(SOURCE)], check=True)
    initrd = (shipped / "initrd").read_bytes()
    added = Tree()
    added.add_file("init", killing_init.read_bytes(), 0o755)
    added.add_file("vibe-init", _file(initrd, b"init"), 0o755)
    if supervisor is not None:
        added.add_file("vibe-supervisor", strip_program(supervisor.read_bytes(), str(supervisor)), 0o755)
    if program is not None:
        added.add_file("program", program.read_bytes(), 0o755)
    (folder / "initrd").write_bytes(initrd + write_cpio(added))
    shutil.copy(shipped / "kernel", folder / "kernel")
    return folder
