"""Completion and the manual page come from the tables that read the command line."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kernelproof.impl.libcontainer.nsinit.commands import GLOBAL, VERBS, load
from kernelproof.impl.libcontainer.nsinit.completion import SCRIPTS, complete
from kernelproof.impl.libcontainer.nsinit.main import main
from kernelproof.impl.libcontainer.nsinit.manual import escape, make_page

ROOT = Path(__file__).parents[4]


@pytest.fixture
def states(tmp_path: Path) -> str:
    """A directory of states with two containers."""
    tmp_path.chmod(0o700)
    for name in ("web", "worker"):
        (tmp_path / name).mkdir()
    return str(tmp_path)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("", list(VERBS)),
        ("st", ["start", "state", "stats"]),
        ("--log-format ", ["text", "json"]),
        ("--log-format=j", ["json"]),
        ("--log-format = j", ["json"]),
        ("--root /x --log-fo", ["--log-format"]),
        ("list --for", ["--format"]),
        ("list --format ", ["table", "json"]),
        ("kill web T", ["TERM"]),
        ("completion ", ["bash", "zsh", "fish"]),
        ("exec web l", []),
        ("create ", []),
        ("nothing ", []),
        ("kill --", ["--all", "--help"]),
        ("--cr", []),
    ],
)
def test_words_are_completed(typed: str, found: list[str]) -> None:
    """Subcommands, options, choices and signals; nothing for what only the user knows, nor for hidden options."""
    *before, last = typed.split(" ")
    assert complete([*before, last]) == found


def test_ids_of_containers_are_completed(states: str) -> None:
    """Where an ID is taken, those that there are, by the root that stands on the line."""
    assert complete(["--root", states, "kill", ""]) == ["web", "worker"]
    assert complete(["--root", states, "kill", "wo"]) == ["worker"]
    assert complete(["--root", states, "stats", "web", "wo"]) == ["worker"]
    assert complete(["--root", states, "exec", "w"]) == ["web", "worker"]
    assert complete(["--root", states, "start", "web", ""]) == []
    assert complete(["--root", f"{states}/none", "start", ""]) == []


def test_no_words_at_all_are_completed_with_subcommands() -> None:
    """Nothing typed is as the beginning of a word."""
    assert complete([]) == list(VERBS)


@pytest.mark.parametrize("shell", SCRIPTS)
def test_each_shell_takes_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The script is printed, and where the shell is there, it is one that it can read."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert script == SCRIPTS[shell]
    program = shutil.which(shell)
    if program is None:
        return
    done = subprocess.run([program, "-n", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_words_are_printed_for_the_shell(capsys: pytest.CaptureFixture[str]) -> None:
    """One candidate a line, whatever dashes stand among the words."""
    assert main(["completion", "words", "--", "--log-format", "t"]) == 0
    assert capsys.readouterr().out == "text\n"


def test_bash_completes_by_the_script() -> None:
    """In bash, the function of the script puts the candidates where readline finds them."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    program = (
        'nsinit() { [ "$1 $2 $3 $4" = "completion words -- sta" ] && printf "start\\nstate\\n"; }\n'
        f"{SCRIPTS['bash']}\n"
        'COMP_WORDS=(nsinit sta); COMP_CWORD=1; _nsinit; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run([bash, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "start state\n"


def test_the_manual_page_is_what_the_program_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/nsinit.1 equals what is made of the tables now."""
    assert main(["manual"]) == 0
    page = capsys.readouterr().out
    assert page == make_page()
    assert (ROOT / "docs/nsinit.1").read_text() == page, "nsinit manual > docs/nsinit.1 makes it anew"


def test_the_manual_page_has_every_option() -> None:
    """Each subcommand and each option that is not hidden stands in the page."""
    page = make_page()
    for name in VERBS:
        assert f"\n.SS {escape(name)}\n" in page
        for option in load(name).options:
            assert option.hidden or rf"\fB{escape(option.names[0])}\fR" in page
    for option in GLOBAL.options:
        assert option.hidden == (rf"\fB{escape(option.names[0])}\fR" not in page)


def test_the_manual_page_is_sound_troff() -> None:
    """groff has nothing to say about it, where it is there."""
    groff = shutil.which("groff")
    if groff is None:
        return
    done = subprocess.run(
        [groff, "-man", "-Tutf8", "-ww", "-z"], input=make_page(), capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
