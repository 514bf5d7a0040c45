"""`os` as far as it is built in, and the rest of it when it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kernelproof
from kernelproof.impl._syscalls import lean_os

# Says which modules of the standard library are there before and after what only os has is asked for.
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from kernelproof.impl._syscalls import lean_os
lean_os.close(lean_os.open("/", lean_os.O_RDONLY))
print("os" in sys.modules, lean_os.has_variable("ONE"), lean_os.has_variable("TWO"))
lean_os.environ["TWO"] = "2"
print("os" in sys.modules, lean_os.has_variable("TWO"), lean_os.path.join("a", "b"))
"""


def test_os_is_loaded_for_what_it_alone_has() -> None:
    """What posix has does not load it; its environment and paths do, and they are the real ones."""
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(Path(next(iter(kernelproof.__path__))).parent)]
    done = subprocess.run(command, env={"ONE": "1"}, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False True False", "True True a/b"]


def test_names_are_those_of_os() -> None:
    """Functions are the same objects; what os lacks is an AttributeError."""
    assert lean_os.pidfd_open is os.pidfd_open
    assert lean_os._exit is os._exit
    environment: object = lean_os.environ
    assert environment is os.environ
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        lean_os.nothing_of_this_name  # noqa: B018 - the look-up is the test
