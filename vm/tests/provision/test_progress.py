"""Progress is told in the way that suits where it goes."""

from __future__ import annotations

import io

import pytest

from kernelproof.vm.provision_progress import BarProgress, LineProgress, SilentProgress, open_progress


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


def tell(file: io.StringIO, *, quiet: bool = False) -> type:
    """Tell a step, how far it is and a note; the kind that was chosen."""
    with open_progress(file, quiet=quiet) as progress:
        progress.step("fetch [bold]it[/bold]")
        progress.advance(1, 2)
        progress.note("a [note]")
        return type(progress)


def test_log_gets_lines() -> None:
    """A file that is no terminal gets a line a step and a line a note, and no codes."""
    file = io.StringIO()
    assert tell(file) is LineProgress
    assert file.getvalue() == "kernelproof: fetch [bold]it[/bold]\nkernelproof: note: a [note]\n"


def test_quiet_gets_nothing() -> None:
    """Under -q nothing is written, at a terminal neither."""
    file = Terminal()
    assert tell(file, quiet=True) is SilentProgress
    assert file.getvalue() == ""


def test_terminal_gets_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal there is a bar; the note stays, words in brackets are shown as they are, the cursor comes back."""
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    assert tell(file) is BarProgress
    text = file.getvalue()
    assert "note: a [note]" in text
    assert "[bold]" in text
    assert text.rindex("\x1b[?25h") > text.index("\x1b[?25l")


def test_silent_keeps_notes() -> None:
    """Notes can be asked for later."""
    progress = SilentProgress()
    progress.note("one")
    assert progress.notes == ["one"]
