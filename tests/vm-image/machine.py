"""A virtual machine under qemu, for the time of one boot. Software emulation: what CI has."""

import os
import re
import shutil
import socket
import subprocess
import threading
import time

QEMU = shutil.which("qemu-system-x86_64")


class Machine:
    """Boots at once; `lines` grows with what the console says."""

    def __init__(self, image, disk, folder, append="", memory=512):
        self._qmp_path = os.path.join(folder, "qmp.sock")
        if os.path.exists(self._qmp_path):
            os.unlink(self._qmp_path)
        self.lines = []
        self._changed = threading.Condition()
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [
                QEMU,
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-serial",
                "stdio",
                "-no-reboot",
                "-M",
                "q35",
                "-accel",
                "tcg,thread=multi",
                "-cpu",
                "max",
                "-smp",
                "2",
                "-m",
                str(memory),
                "-kernel",
                os.path.join(image, "kernel"),
                "-initrd",
                os.path.join(image, "initrd"),
                "-append",
                "console=ttyS0 quiet panic=-1 " + append,
                "-qmp",
                f"unix:{self._qmp_path},server=on,wait=off",
                "-drive",
                f"if=none,id=data,file={disk},format=raw,cache=unsafe,discard=unmap",
                "-device",
                "virtio-blk-pci,drive=data,serial=vibe-data",
                "-netdev",
                "user,id=n0",
                "-device",
                "virtio-net-pci,netdev=n0,romfile=",
                "-device",
                "virtio-rng-pci",
                "-device",
                "virtio-balloon-pci,free-page-reporting=on",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def _read(self):
        for raw in self.process.stdout:
            with self._changed:
                self.lines.append(raw.decode("utf-8", "replace").strip())
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def console(self):
        return "\n".join(self.lines)

    def wait_for(self, pattern, timeout=60):
        """The first console line that matches, as a match object."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for line in self.lines:
                    match = re.search(pattern, line)
                    if match:
                        return match
                left = deadline - time.monotonic()
                assert left > 0, f"no {pattern!r} within {timeout} s on the console:\n{self.console()}"
                assert (
                    self._reader.is_alive()
                ), f"the machine ended without {pattern!r} on the console:\n{self.console()}"
                self._changed.wait(min(left, 1))

    def press_power_button(self):
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(self._qmp_path)
            stream = channel.makefile("rwb")
            stream.readline()
            for command in ("qmp_capabilities", "system_powerdown"):
                stream.write(b'{"execute":"%s"}\n' % command.encode())
                stream.flush()
                stream.readline()

    def wait_off(self, timeout=30):
        assert self.process.wait(timeout) == 0, self.console()
        self._reader.join(5)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self._reader.join(5)
        self.process.stdout.close()
