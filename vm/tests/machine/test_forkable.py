"""Whether this host's QEMU can be forked is told by trying."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kernelproof.vm.forkable import why_not
from kernelproof.vm.provision_qemu import NAME

pytestmark = pytest.mark.makes_machines

ASK = """
import gc, os, sys, threading
from kernelproof.vm import standing
from kernelproof.vm.forkable import why_not
BEFORE
before = set(os.listdir("/proc/self/fd"))
print(why_not(sys.argv[1]))
gc.collect()  # an error is held by its own traceback
for thread in threading.enumerate()[1:]:  # the one that forked
    thread.join(30)
print(set(os.listdir("/proc/self/fd")) - before)
print(repr(open("/proc/thread-self/children").read()))
"""


@pytest.fixture
def qemu() -> str:
    """The system's QEMU; one that is unpacked starts by a loader, and is tried by every test in a machine."""
    found = shutil.which(NAME)
    if found is None:
        pytest.skip("the system has no QEMU")
    return os.path.realpath(found)


def ask(qemu: str, before: str = "") -> list[str]:
    """What an interpreter of its own says: the reason; new descriptors; children that are left."""
    done = subprocess.run([sys.executable, "-c", ASK.replace("BEFORE", before), qemu], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def test_it_can(qemu: str) -> None:
    """Nothing is against it, and nothing of the trial is left."""
    assert ask(qemu) == ["", "set()", "''"]


def test_what_it_has_can_not_be_shared(qemu: str) -> None:
    """A descriptor of a kind that forks can't have for themselves is named."""
    reason, *left = ask(qemu, "standing._SHARED = ()")
    assert "anon_inode:[signalfd], would be shared by all forks" in reason
    assert left == ["set()", "''"]


def test_what_is_no_qemu(tmp_path: Path) -> None:
    """A script, as some put before their QEMU, can't be stopped where it is linked; a file that is none is told too."""
    script = tmp_path / "qemu-system-x86_64"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert why_not(str(script)).endswith("is not a program for x86-64")
    assert why_not(str(tmp_path / "none")).endswith("No such file or directory")
