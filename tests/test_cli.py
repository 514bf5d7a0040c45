"""The command `kernelproof`: what it prints, its exit statuses, and that no failure shows a traceback."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys

import pytest

import kernelproof
from kernelproof.cli import kernels, main
from kernelproof.vm.errors import ProvisionError


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints name and version."""
    with pytest.raises(SystemExit) as caught:
        main.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"kernelproof {kernelproof.__version__}\n"


@pytest.mark.parametrize("words", [[], ["nonsense"], ["kernels", "--nonsense"], ["clean", "everything"]])
def test_usage_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command line is refused with status 2 and a usage line."""
    with pytest.raises(SystemExit) as caught:
        main.main(words)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: kernelproof")


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each sub-command explains itself."""
    with pytest.raises(SystemExit) as caught:
        main.main([name, "--help"])
    assert caught.value.code == 0
    assert main.COMMANDS[name][1:40] in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ProvisionError("fetch", "kernel", "gone", "wait"), 1, "kernelproof: fetch: kernel: gone\n  remedy: wait\n"),
        (OSError(28, "No space left on device", "/x"), 1, "kernelproof: /x: No space left on device\n  remedy: "),
        (OSError(18, "Cross-device link", "/x", None, "/y"), 1, "kernelproof: /x -> /y: Cross-device link\n"),
        (KeyboardInterrupt(), 130, "kernelproof: interrupted\n"),
    ],
)
def test_failures_are_sentences(
    error: BaseException, status: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a sub-command could not do is told with its remedy, and the exit status says what kind it was."""

    def fail(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(kernels, "run", fail)
    assert main.main(["kernels"]) == status
    assert capsys.readouterr().err.startswith(text)


def test_defects_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw is not made to look like one that was."""

    def fail(_: argparse.Namespace) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(kernels, "run", fail)
    with pytest.raises(ZeroDivisionError):
        main.main(["kernels"])


def test_reader_that_went_away() -> None:
    """`kernelproof kernels | head -0` says nothing on standard error."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "kernelproof.cli", "kernels"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_interrupt() -> None:
    """Ctrl-C ends it with status 130 and one line."""
    program = (
        "import os, select, signal, sys, kernelproof.cli.kernels as k, kernelproof.cli.main as m\n"
        "from kernelproof.vm.tests.interruptible import listen\n"
        "listen()\n"
        "reading, writing = os.pipe2(os.O_NONBLOCK)\n"
        "signal.set_wakeup_fd(writing)  # a signal that comes right before the wait ends it too\n"
        "k.run = lambda arguments: (print('waits', flush=True), select.select([reading], [], []))\n"
        "sys.exit(m.main(['kernels']))\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (130, "kernelproof: interrupted\n")


def test_a_light_command_loads_little() -> None:
    """Printing the kernels loads nothing that only machines need."""
    program = (
        "import sys; from kernelproof.cli.main import main; main(['kernels'])\n"
        "print(*{'asyncio', 'rich', 'pytest', 'multiprocessing'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "\n"
