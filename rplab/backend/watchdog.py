"""Runs a server command and ends it, with everything it started, as soon as the lab is gone.

    python -I watchdog.py COMMAND...      (started by rplab.backend.spawn, as leader of a new session)

The lab holds the other end of stdin: it closes when the lab asks for the end and when it dies, SIGKILL included. The
server shares this process's group, so one signal reaches its workers, too. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time

GRACE_S = 10.0
_POLL_S = 0.25
_PR_SET_PDEATHSIG = 1


def main(command: list[str]) -> int:
    """Run the command until it ends or stdin closes; return its exit code."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the whole group gets it, and somebody must stay to count the seconds
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_prepare_server)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: cannot be started ({error.strerror})\n")
        return 127
    parent = os.getppid()
    while server.poll() is None:
        readable, _, _ = select.select([0], [], [], _POLL_S)
        if (readable and not os.read(0, 4096)) or os.getppid() != parent:
            _end_group(server)
    code = server.returncode
    sys.stderr.write(f"the server ended with exit code {code}\n")
    sys.stderr.flush()
    os.killpg(0, signal.SIGKILL)  # workers it left behind, and this process
    return code


def _end_group(server: subprocess.Popen[bytes]) -> None:
    os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline and server.poll() is None:
        time.sleep(0.05)
    os.killpg(0, signal.SIGKILL)


def _prepare_server() -> None:
    """Between fork and exec: default signals, and the end of the server when the watchdog itself is killed (Linux)."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
