"""What the installed command does before its package is loaded: a second beginning, and modules from one file."""

from __future__ import annotations

import os
import posix
import subprocess
import sys
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.libcontainer.config.problems import ConfigError
from kernelproof.impl.libcontainer.nsinit import failures, main
from kernelproof.impl.libcontainer.nsinit.commands import GLOBAL
from kernelproof.impl.libcontainer.nsinit.logs import Log
from kernelproof.impl.libcontainer.nsinit.options import FLAG
from kernelproof.impl.libcontainer.nsinit.scripts import first, packed
from kernelproof.impl.libcontainer.operations import StartError

SCRIPTS = Path(first.__file__).parent
# A program that takes modules from the file first, imports `sample`, and says where it came from.
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from packed import install
packed = install(sys.argv[2])
sys.path[0] = sys.argv[2]
import sample, sample.inner, termios
print(sample.WORD, type(sample.inner.__spec__.loader).__name__, sample.__file__, sample.__path__)
packed.keep()
"""


def test_the_command_is_found_as_the_parser_finds_it() -> None:
    """Words before the subcommand are skipped with their values, whatever options of the command line they are."""
    valued = {name.lstrip("-") for option in GLOBAL.options if option.kind != FLAG for name in option.names}
    assert set(first.VALUED) == valued
    assert first.ENTERING == main.ENTERING
    assert first.find_command(["--root", "create", "--debug", "--log=x", "state", "run"]) == "state"
    assert first.find_command(["--systemd-cgroup", "run", "a"]) == "run"
    assert first.find_command(["--root"]) == ""


def test_what_enters_no_container_begins_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter is executed again for the subcommands that need it alone, and not if it is read-only already."""
    begun: list[Any] = []
    monkeypatch.setattr(first, "open_read_only", lambda path: 99)
    monkeypatch.setattr(first, "copy_sealed", lambda: 98)
    monkeypatch.setattr(posix, "execve", lambda *values: begun.append(values))
    monkeypatch.setattr(sys, "argv", ["nsinit", "state", "run"])
    first.begin()
    assert begun == []
    monkeypatch.setattr(sys, "argv", ["nsinit", "--debug", "run", "a"])
    monkeypatch.setattr(first, "is_protected", lambda: True)
    first.begin()
    assert begun == []
    monkeypatch.setattr(first, "is_protected", lambda: False)
    first.begin()
    assert [values[:2] for values in begun] == [
        (99, [sys.executable, *sys.orig_argv[1:]]),
        (98, [sys.executable, *sys.orig_argv[1:]]),  # as nothing was executed
    ]


def test_what_can_not_be_executed_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither can be executed the command goes on; no descriptor of the first is left."""
    tried: list[object] = []

    def refuse(where: object, *values: object) -> None:
        tried.append(where)
        raise PermissionError

    fd = os.open("/dev/null", os.O_RDONLY)
    monkeypatch.setattr(first, "open_read_only", lambda path: fd)
    monkeypatch.setattr(first, "is_protected", lambda: False)
    monkeypatch.setattr(posix, "execve", refuse)
    monkeypatch.setattr(sys, "argv", ["nsinit", "run", "a"])
    first.begin()
    assert tried[0] == fd
    assert len(tried) == 2
    assert isinstance(tried[1], int)
    assert Path(f"/proc/self/fd/{tried[1]}").readlink().name.startswith("memfd:interpreter")
    os.close(tried[1])


def test_the_namespace_of_the_shell_half_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes the mounts there read-only, goes back by the three descriptors, closes them, and forgets the word.

    Without the word nothing is done.
    """
    done: list[object] = []
    monkeypatch.setattr(first, "_make_read_only", lambda: done.append("read-only"))
    monkeypatch.setattr(first, "_enter_namespace", lambda fd: done.append(f"enter {fd}"))
    for name in ("fchdir", "chroot", "close"):
        monkeypatch.setattr(posix, name, lambda value, name=name: done.append(f"{name} {value}"))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-I", "nsinit-python", "run"])
    first.leave_namespace()
    assert done == []
    monkeypatch.setattr(sys, "orig_argv", ["python", "-I", "-Xleave=7", "nsinit-python", "run"])
    first.leave_namespace()
    back = ["enter 7", "fchdir 8", "chroot .", "fchdir 9"]
    assert done == ["chroot /", "read-only", *back, "close 7", "close 8", "close 9"]
    assert sys.orig_argv == ["python", "-I", "nsinit-python", "run"]


def test_the_namespace_is_kept_where_there_is_no_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CAP_SYS_CHROOT nothing is made read-only, which could not be undone."""
    done: list[object] = []

    def refuse(path: str) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr(first, "_make_read_only", lambda: done.append("read-only"))
    monkeypatch.setattr(posix, "chroot", refuse)
    monkeypatch.setattr(posix, "close", done.append)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-Xleave=7", "nsinit-python", "run"])
    first.leave_namespace()
    assert done == [7, 8, 9]


def test_without_either_it_is_said(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """A command that can't be protected is warned of, and goes on."""

    def refuse() -> None:
        raise PermissionError(1, "Operation not permitted", "/proc/self/exe")

    monkeypatch.setattr(first, "is_protected", lambda: False)
    monkeypatch.setattr(first, "begin_again", refuse)
    main._seal(Log())
    assert "the interpreter can't be run from a sealed copy" in capfd.readouterr().err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with a package, and with room for the file."""
    (tmp_path / "sample").mkdir()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "sample/__init__.py").write_text("from sample.inner import WORD\n")
    write(tmp_path, "one")
    return tmp_path


def write(folder: Path, word: str, seconds: int = 1_000_000_000) -> None:
    """The package's module, with a time of its own."""
    (folder / "sample/inner.py").write_text(f"WORD = {word!r}\n")
    os.utime(folder / "sample/inner.py", (seconds, seconds))


def call(folder: Path) -> list[str]:
    """One call of the program: the word, the loader, the file, the path."""
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(SCRIPTS), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def packs(folder: Path) -> list[Path]:
    """The files that were written."""
    return sorted((folder / "__pycache__").iterdir())


def test_the_second_call_takes_modules_from_the_file(folder: Path) -> None:
    """What the first had to look for, packages and extension modules too, the second finds there, writing nothing."""
    assert call(folder)[:2] == ["one", "Noting"]
    (file,) = packs(folder)
    kept = file.stat()
    expected = ["one", "Packed", str(folder / "sample/__init__.py"), str([str(folder / "sample")])]
    assert call(folder) == expected
    assert packs(folder) == [file]
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (kept.st_ino, kept.st_mtime_ns)


def test_what_is_found_noted_and_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process: a module is found the usual way, runs, and is kept, without a descriptor that stays."""
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    finder = packed.Packed(str(folder / "__pycache__/all"))
    assert finder.find_spec("sample_that_is_not_there") is None
    spec = finder.find_spec("sample")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    for name in ("sample", "sample.inner"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "sample", module)
    spec.loader.exec_module(module)
    assert module.WORD == "one"
    monkeypatch.delitem(sys.modules, "sample.inner")
    before = os.listdir("/proc/self/fd")
    finder.keep()
    assert (folder / "__pycache__/all").stat().st_size
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_changed_source_is_loaded_anew(folder: Path) -> None:
    """A source of another time makes its module void; it is in the file again after that call, and the others stay."""
    call(folder)
    write(folder, "two", seconds=1_000_000_005)
    assert call(folder)[:2] == ["two", "Noting"]
    assert call(folder)[:2] == ["two", "Packed"]


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x04\0\0\0\0\0\0\0zzzz"], ids=["empty", "large", "garbage"])
def test_a_damaged_file_is_as_none(content: bytes, folder: Path) -> None:
    """What is no such file is not used, and is replaced."""
    call(folder)
    (file,) = packs(folder)
    file.write_bytes(content)
    assert call(folder)[:2] == ["one", "Noting"]
    assert call(folder)[:2] == ["one", "Packed"]


def test_without_a_place_for_it_all_goes_on(folder: Path) -> None:
    """Where the file can't be written nothing is said and nothing is left."""
    (folder / "__pycache__").rmdir()
    (folder / "__pycache__").write_text("")
    assert call(folder)[:2] == ["one", "Noting"]
    assert call(folder)[:2] == ["one", "Noting"]


def test_another_place_makes_the_file_void(folder: Path, tmp_path: Path) -> None:
    """A file that was copied with its package to another directory is not used there: its paths are of the old one."""
    call(folder)
    moved = tmp_path / "moved"
    moved.mkdir()
    (folder / "sample").rename(moved / "sample")
    (folder / "__pycache__").rename(moved / "__pycache__")
    assert call(moved)[1:3] == ["Noting", str(moved / "sample/__init__.py")]


# Imports what `MANY` names, as a call of a subcommand would, and says which modules were there before it did.
AT_ONCE = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from packed import install
packed = install(sys.argv[2], "run")
names = sys.argv[3].split(",")
print(*[name for name in sys.modules if name.startswith("one")])
for name in names:
    __import__(name)
print(sys.modules["one_b"].WORD, sys.modules["one_a"].WORD)
packed.keep()
"""


def test_modules_that_most_calls_need_are_run_in_the_order_of_their_completion(tmp_path: Path) -> None:
    """The next call finds them in sys.modules; two that need each other come as they always do; few more stay apart."""
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "one_a.py").write_text("import sys\nimport one_b\nWORD = sys.modules['one_b'].WORD + 'a'\n")
    (tmp_path / "one_b.py").write_text("WORD = 'b'\n")
    (tmp_path / "one_c.py").write_text("WORD = 'c'\nfrom one_d import OTHER\n")
    (tmp_path / "one_d.py").write_text("from one_c import WORD\nOTHER = WORD\n")
    (tmp_path / "one_e.py").touch()

    def run(names: str) -> list[str]:
        command = [sys.executable, "-I", "-S", "-c", AT_ONCE, str(SCRIPTS), str(tmp_path), names]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    assert run("one_a,one_c") == ["", "b ba"]
    assert run("one_a,one_c") == ["one_b one_a one_c one_d", "b ba"]
    (file,) = (tmp_path / "__pycache__").glob("*.pack")
    assert file.name.endswith(".run.pack")
    assert b"opcode" not in file.read_bytes()  # what writes the file needs it, no call does
    assert run("one_a,one_c,one_e") == ["one_b one_a one_c one_d", "b ba"]
    assert run("one_a,one_c,one_e") == ["one_b one_a one_c one_d", "b ba"]


def test_what_is_told_needs_no_module_that_nobody_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A StartError is told as a sentence, and its module is not loaded to know it."""
    assert issubclass(ConfigError, failures.known_failures())
    assert issubclass(StartError, failures.known_failures())
    monkeypatch.delitem(sys.modules, StartError.__module__)
    assert StartError not in failures.known_failures()
    assert StartError.__module__ not in sys.modules
