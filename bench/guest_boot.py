"""What the benchmarks of the VM share: the parts of a boot, each by itself, on the hypervisor that Vibe uses."""

import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
sys.path[:0] = [str(REPOSITORY / "tests" / "e2e"), str(REPOSITORY / "vm-image")]

from vibe_cli import BIN, Vibe, eventually  # noqa: E402
from vmimage.cpio import write_cpio  # noqa: E402
from vmimage.tree import Tree  # noqa: E402

CACHE = REPOSITORY / "build" / "vm-packages"


def compile_static(source, program):
    subprocess.run(["cc", "-static", "-Os", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(HERE / source)], check=True)


def build_image(out, bin_folder=BIN):
    """Builds the guest; returns the seconds that it took."""
    started = time.monotonic()
    subprocess.run([str(REPOSITORY / "vm-image" / "build.sh"), "--distro", "debian", "--bin", str(bin_folder),
                    "--out", str(out), "--cache", str(CACHE)], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


class Home(Vibe):
    """A home of Vibe whose machine is a VM."""

    def __init__(self, home, image):
        super().__init__(home)
        self.environment.update(VIBE_MACHINE="qemu", VIBE_VM_IMAGE=str(image))
        self.folder = self.home / "machine" / "qemu"

    def qemu(self):
        """The pid of the machine's qemu."""
        for line in (self.folder / "run" / "children").read_text().splitlines():
            pid = int(line.split()[0])
            if b"qemu-system" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        raise RuntimeError("the machine has no qemu")

    def hypervisor(self):
        """The arguments of the running qemu that say what the guest runs on; no devices but the console."""
        words = Path(f"/proc/{self.qemu()}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
        value = {words[i]: words[i + 1] for i in range(1, len(words) - 1)}
        machine = value["-machine"].replace(",memory-backend=memory", "")
        return [words[0], "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio", "-machine", machine,
                *(word for name in ("-accel", "-cpu", "-smp", "-m", "-kernel") for word in (name, value[name])),
                "-append", re.sub(r" vibe\..*", "", value["-append"])]

    def timeline(self):
        """The guest's own record of its last boot: step to seconds since its kernel started."""
        text = (self.folder / "logs" / "console.log").read_text(errors="replace")
        words = re.findall(r"vibe-init: ready: (.*)", text)[-1].split()
        return {words[i]: float(words[i + 1]) for i in range(0, len(words) - 1, 2)}


def boot_until(command, line, timeout=120):
    """Starts qemu; returns what of the console came before `line`, and the seconds until then. Ends qemu."""
    started = time.monotonic()
    seen = []
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace") as process:
        try:
            for text in process.stdout:
                if line in text:
                    return seen, time.monotonic() - started
                seen.append(text.strip())
                if time.monotonic() - started > timeout:
                    break
        finally:
            process.kill()
    raise RuntimeError(f"no {line!r} on the console:\n" + "\n".join(seen[-20:]))


class BareKernel:
    """The image's kernel with nothing behind it."""

    def __init__(self, folder, hypervisor):
        compile_static("bare_init.c", folder / "bare_init")
        tree = Tree()
        tree.add_file("init", (folder / "bare_init").read_bytes(), 0o755)
        (folder / "bare.initrd").write_bytes(write_cpio(tree))
        self.command = [*hypervisor, "-initrd", str(folder / "bare.initrd")]

    def boot(self):
        """Seconds from qemu's start to the first process."""
        return boot_until(self.command, "bare: first process")[1]


def stand_in_image(folder, source, **programs):
    """A guest with a program of C in the supervisor's place; its other programs are the shipped ones, or those given."""
    bin_folder = folder / "programs"
    bin_folder.mkdir(parents=True)
    compile_static(source, bin_folder / "vibe-supervisor")
    for name in ("vibe-init", "vibe-logger"):
        (bin_folder / name).symlink_to(programs.get(name.replace("-", "_"), BIN / name))
    build_image(folder / "image", bin_folder)
    return folder / "image"


def with_data_disk(command, image, disk):
    """The hypervisor's command with the guest's image and an empty data disk."""
    with open(disk, "wb") as file:
        file.truncate(2 << 30)
    return [*command, "-initrd", str(image / "initrd"), "-drive", f"if=none,id=data,file={disk},format=raw",
            "-device", "virtio-blk-pci,drive=data,serial=vibe-data"]


def containerd_alone(folder, hypervisor):
    """Seconds from containerd's start to the first connection that it accepts, in a guest that does nothing else and has
    nothing of the program in memory; several starts."""
    image = stand_in_image(folder / "alone", "containerd_alone.c")
    command = with_data_disk(hypervisor, image, folder / "alone.img")
    command[command.index("-append") + 1] += " vibe.net=none"
    seen, _ = boot_until(command, "alone: done")
    return [float(line.split()[-1]) for line in seen if line.startswith("alone: ")]
