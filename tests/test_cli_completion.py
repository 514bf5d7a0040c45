"""Words that complete, in bash and by themselves, and the manual page."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kernelproof.cli import completion, main, manual
from kernelproof.vm.kernel_select import read_rows

VALUES = {"kernel": lambda: ["5.10", "6.1", "6.12", "newest", "all"], "profile": lambda: ["plain", "disk"]}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([""], [*main.COMMANDS, "--help", "--version"]),
        (["se"], ["setup"]),
        (["run", "--kernel", "6"], ["6.1", "6.12"]),
        (["run", "--kernel", "5.10,n"], ["5.10,newest"]),
        (["setup", "new"], ["newest"]),
        (["setup", "--profile", ""], ["plain", "disk"]),
        (["run", "--pull"], ["--pull", "--pull-to"]),
        (["run", "--forward", ""], []),
        (["run", "--kernel", "6.1", "--", "--k"], []),
        (["completion", ""], ["bash", "zsh", "fish", "words"]),
        (["nonsense", ""], []),
    ],
    ids=lambda value: "-".join(value) if value and len(value) < 5 else None,
)
def test_words_that_complete(words: list[str], expected: list[str]) -> None:
    """Commands, options, kernels, profiles and choices complete; what belongs to the program does not."""
    assert completion.complete(words, VALUES) == expected


def test_completion_in_bash(tmp_path: Path) -> None:
    """bash completes with the script that is printed for it."""
    if (bash := shutil.which("bash")) is None:
        pytest.skip("not applicable: no bash here")
    command = tmp_path / "kernelproof"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kernelproof.cli "$@"\n')
    command.chmod(0o755)
    script = """
    eval "$(kernelproof completion bash)"
    COMP_WORDS=(kernelproof shell --kernel 5.1) COMP_CWORD=3
    _kernelproof
    printf '%s|' "${COMPREPLY[@]}"
    complete -p kernelproof
    """
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run([bash, "-c", script], env={**os.environ, "PATH": path}, capture_output=True, check=True)
    assert done.stdout.startswith(b"5.10|complete")
    assert done.stderr == b""


def test_completed_words_are_real(capsys: pytest.CaptureFixture[str]) -> None:
    """Kernels and profiles are those that there are."""
    assert main.main(["completion", "words", "--", "run", "--kernel", ""]) == 0
    words = capsys.readouterr().out.split()
    assert {row.series for row in read_rows().rows} | {"oldest", "stable", "newest", "all"} == set(words)
    assert main.main(["completion", "words", "--", "run", "--profile", ""]) == 0
    assert {"plain", "disk", "systemd"} <= set(capsys.readouterr().out.split())


def test_manual_page() -> None:
    """The manual page is that of the command line."""
    page = Path(__file__).parent.parent / "docs" / "kernelproof.1"
    assert page.read_text("utf-8") == manual.format_manual(), "python -m kernelproof.cli.manual > docs/kernelproof.1"


def test_manual_page_can_be_set() -> None:
    """groff has nothing to say against the manual page."""
    if (groff := shutil.which("groff")) is None:
        pytest.skip("not applicable: no groff here")
    text = manual.format_manual().encode()
    done = subprocess.run([groff, "-man", "-Tascii", "-ww", "-b"], input=text, capture_output=True, check=True)
    assert done.stderr == b""
