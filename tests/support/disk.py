"""A small disk of its own: a file with ext4 on it, mounted where no other process sees it. Needs root and mkfs.ext4."""

import ctypes
import os
import pathlib
import shutil
import subprocess
import tempfile

CLONE_NEWNS = 0x00020000
MIB = 1 << 20

libc = ctypes.CDLL(None, use_errno=True)


def why_not():
    """Why this machine can't; None if it can."""
    if os.geteuid() != 0:
        return "needs root to mount a file system"
    missing = [tool for tool in ("mkfs.ext4", "mount", "umount", "fsfreeze") if not shutil.which(tool)]
    if missing:
        return f"needs {' and '.join(missing)}"
    if not os.path.exists("/dev/loop-control"):
        return "needs loop devices"
    return None


class Disk:
    """Of so many MiB, at `path`. It is gone when this process and its children are."""

    def __init__(self, mib):
        # Mounts of this process are its own from here on, and end with it.
        if libc.unshare(CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS)")
        run("mount", "--make-rprivate", "/")
        self._folder = tempfile.TemporaryDirectory()
        folder = pathlib.Path(self._folder.name)
        image, self.path = folder / "image", folder / "disk"
        with open(image, "wb") as file:
            file.truncate(mib * MIB)
        self.path.mkdir()
        # Nothing of it is kept for root alone: the server may be root.
        run("mkfs.ext4", "-q", "-m", 0, image)
        run("mount", "-o", "loop", image, self.path)

    @property
    def free(self):
        """Bytes."""
        stat = os.statvfs(self.path)
        return stat.f_bavail * stat.f_frsize

    def fill(self, leave):
        """Takes all room but so many bytes."""
        with open(self.path / "ballast", "wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, self.free - leave)

    def empty(self):
        os.unlink(self.path / "ballast")

    def fail(self):
        """As after an error of the device: ext4 turns itself read-only."""
        run("mount", "-o", "remount,abort", self.path)

    def freeze(self):
        """Writes stand still until `thaw`."""
        run("fsfreeze", "--freeze", self.path)

    def thaw(self):
        run("fsfreeze", "--unfreeze", self.path)

    def close(self):
        subprocess.run(["umount", "--lazy", str(self.path)], check=False)
        self._folder.cleanup()


def run(*command):
    subprocess.run([str(word) for word in command], check=True, stdin=subprocess.DEVNULL, capture_output=True)
