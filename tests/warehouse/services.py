"""Other programs that the checks of this folder start or ask."""

import contextlib
import subprocess
import sys
import time


@contextlib.contextmanager
def moto(port, is_up):
    """AWS's services as moto's server has them, on a port of this machine, from when `is_up()` raises nothing."""
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                is_up()
                break
            except Exception:
                time.sleep(0.2)
        yield
    finally:
        server.terminate()
        server.wait()
