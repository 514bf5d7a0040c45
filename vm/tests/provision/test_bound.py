"""Nothing that provisioning starts outlives it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys

import pytest

from kernelproof.vm.apt import bound_to_us

CODE = """
import subprocess
from kernelproof.vm.apt import bound_to_us
subprocess.run(bound_to_us(["sh", "-c", "echo $$; exec sleep 60"]))
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not on this host")
def test_killed_starter_takes_its_program_along() -> None:
    """When the process that started a program gets SIGKILL, the program is gone at once."""
    with subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        program = os.pidfd_open(int(starter.stdout.readline()))
        try:
            starter.kill()
            assert starter.wait() == -signal.SIGKILL
            assert select.select([program], [], [], 60.0)[0]
        finally:
            os.close(program)


def test_without_setpriv_the_command_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without setpriv(1) runs the command alone."""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert bound_to_us(["a", "b"]) == ["a", "b"]
