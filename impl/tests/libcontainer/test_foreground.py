"""A process in the foreground: what is sent to who waits goes to who is waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# It waits for a child that ends by whatever signal comes, and says when that child is there.
WAITS = """
import os, signal, sys
from kernelproof.impl.libcontainer import foreground
child = os.fork()
if child == 0:
    signal.sigwait([])
pidfd = os.pidfd_open(child)
foreground.forward_signals(pidfd)  # attend does that first; here before anybody can send one
print(child, flush=True)
code = foreground.attend(child, pidfd)
print(code, len(signal.pthread_sigmask(signal.SIG_BLOCK, [])), flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL], ids=["TERM", "USR1", "KILL"])
def test_who_waits_hands_signals_on(number: signal.Signals) -> None:
    """A signal to who waits ends the child, whose end is the answer; afterwards no signal is blocked."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, env=environment) as waiting:
        assert waiting.stdout is not None
        child = int(waiting.stdout.readline())
        os.kill(child if number == signal.SIGKILL else waiting.pid, number)
        try:
            assert waiting.communicate(timeout=60)[0].split() == [b"%d" % (128 + number), b"0"]
        finally:
            waiting.kill()
    assert waiting.returncode == 0


ORPHANS = """
import os, signal
from kernelproof.impl.libcontainer import foreground
gone, child = os.fork(), -1
if gone == 0:
    os._exit(3)
os.waitid(os.P_PID, gone, os.WEXITED | os.WNOWAIT)
child = os.fork()
if child == 0:
    signal.pause()
foreground.reap_orphans(child)
assert not os.path.exists(f"/proc/{gone}"), "it is still waited for"
os.kill(child, signal.SIGKILL)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
foreground.reap_orphans(child)
print(foreground.attend(child, os.pidfd_open(child)))
foreground.reap_orphans(child)
"""


def test_orphans_are_waited_for() -> None:
    """Whoever else came to who waits does not stay as a zombie; the process's own end is not taken away."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", ORPHANS], capture_output=True, text=True, env=environment, check=False)
    assert (done.stdout, done.stderr) == ("137\n", "")
