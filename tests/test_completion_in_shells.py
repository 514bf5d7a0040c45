"""The scripts that make shells complete, tried in the shells: zsh and fish where they are, bash beside the words."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH finds this project's command, and a folder of its own as home."""
    command = tmp_path / "kernelproof"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kernelproof.cli "$@"\n')
    command.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "TERM": "dumb"}


def test_fish(environment: dict[str, str], tmp_path: Path) -> None:
    """fish completes commands and kernels with the script, and files where the command knows no words."""
    if (fish := shutil.which("fish")) is None:
        pytest.skip("not applicable: no fish here")
    (tmp_path / "image-of-mine").touch()
    script = """
    kernelproof completion fish | source
    complete -C "kernelproof se"
    complete -C "kernelproof shell --kernel 5.1"
    complete -C "kernelproof run --kernel-image image-of"
    """
    done = subprocess.run(
        [fish, "--no-config", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["setup", "5.10", "image-of-mine"]
    assert done.stderr == ""


@pytest.fixture
def zsh(environment: dict[str, str], tmp_path: Path) -> Iterator[int]:
    """The terminal of a zsh that has begun to complete, its prompt written."""
    if (path := shutil.which("zsh")) is None or shutil.which("setsid") is None:
        pytest.skip("not applicable: no zsh or no setsid here")
    terminal, slave = pty.openpty()
    command = ["setsid", "--ctty", path, "-f", "-i"]  # the terminal is its controlling one
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        try:
            begin = 'PROMPT="ready> "; autoload -Uz compinit; compinit -u -D; eval "$(kernelproof completion zsh)"\n'
            os.write(terminal, begin.encode())
            read_until(terminal, b"\rready> ")
            yield terminal
        finally:
            process.kill()
            os.close(terminal)


def read_until(terminal: int, wanted: bytes) -> bytes:
    """What a terminal shows up to some bytes; within two minutes."""
    seen, end = b"", time.monotonic() + 120
    while wanted not in seen:
        assert select.select([terminal], [], [], max(end - time.monotonic(), 0))[0], seen
        seen += os.read(terminal, 65536)
    return seen


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        (b"kernelproof comp\t", b"completion "),
        (b"kernelproof shell --kernel 5\t", b"5.10 "),
        (b"kernelproof run --kernel-image image-of\t", b"image-of-mine "),
    ],
    ids=["command", "kernel", "file"],
)
def test_zsh(zsh: int, typed: bytes, shown: bytes, tmp_path: Path) -> None:
    """zsh completes commands and kernels with the script, and files where the command knows no words."""
    (tmp_path / "image-of-mine").touch()
    os.write(zsh, typed)
    assert shown in read_until(zsh, shown)
