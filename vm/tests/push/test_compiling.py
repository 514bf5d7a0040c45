"""Bytecode that is made ahead of a guest, here with the Python of this host in place of the guest's."""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from kernelproof.vm import compiling
from kernelproof.vm.bytecode import Bytecode
from kernelproof.vm.cache import Cache
from kernelproof.vm.compiling import FEW, compile_ahead, find_tools
from kernelproof.vm.provision_tools import Tools

GUEST = {"root_digest": "r", "python": "3.0"}
TEXT = "def test_it():\n    assert left == right\n"


class HostPython(Tools):
    """Runs this Python; counts how often."""

    runs: list[Sequence[str]]

    def invoke(self, name: str, words: Sequence[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
        self.runs.append(words)
        return subprocess.run([sys.executable, *words], input=data, capture_output=True, check=True, cwd="/")


class FailingPython(HostPython):
    """One that fails."""

    def invoke(self, name: str, words: Sequence[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
        self.runs.append(words)
        raise PermissionError(13, "no")


@pytest.fixture
def bytecode(tmp_path: Path) -> Bytecode:
    cache = Cache(tmp_path / "cache")
    cache.folder("bytecode")
    return Bytecode(cache, GUEST, tmp_path / "project")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """As many test files as are worth it."""
    (tmp_path / "project").mkdir()
    paths = [tmp_path / f"project/test_{number}.py" for number in range(FEW)]
    for path in paths:
        path.write_text(TEXT)
    return paths


def tools_of(kind: type[HostPython], tmp_path: Path) -> HostPython:
    tools = kind(tmp_path, "digest")
    object.__setattr__(tools, "runs", [])
    return tools


def test_made_as_pytest_makes_it(
    tmp_path: Path, bytecode: Bytecode, files: list[Path], pytestconfig: pytest.Config
) -> None:
    """What is made is found for its source afterwards, with its assertions rewritten; the second time nothing is."""
    tools = tools_of(HostPython, tmp_path)
    compile_ahead(pytestconfig, bytecode, files, tools)
    runs = len(tools.runs)
    compile_ahead(pytestconfig, bytecode, files, tools)
    assert len(tools.runs) == runs > 0
    for path in files:
        ((name, data),) = bytecode.find(path, path.read_bytes(), 0)
        assert name == f"__pycache__/{path.stem}.{sys.implementation.cache_tag}-pytest-{pytest.__version__}.pyc"
        code = marshal.loads(data[16:])
        assert code.co_filename == str(path)
        assert "@pytest_ar" in code.co_names


def test_file_that_can_not_be_compiled(
    tmp_path: Path, bytecode: Bytecode, files: list[Path], pytestconfig: pytest.Config
) -> None:
    """A file with an error in it is left to whoever imports it; the others are made."""
    files[0].write_text("def")
    files.append(tmp_path / "project/test_absent.py")
    compile_ahead(pytestconfig, bytecode, files, tools_of(HostPython, tmp_path))
    assert bytecode.find(files[0], b"def", 0) == []
    assert bytecode.find(files[1], files[1].read_bytes(), 0) != []


def test_few_are_left_to_the_guest(
    tmp_path: Path, bytecode: Bytecode, files: list[Path], pytestconfig: pytest.Config
) -> None:
    """An interpreter is not started for a handful of files, nor where a project has assertions left alone."""
    tools = tools_of(HostPython, tmp_path)
    compile_ahead(pytestconfig, bytecode, files[1:], tools)
    compile_ahead(pytestconfig, bytecode, files, None)
    assert tools.runs == []


def test_interpreter_that_fails(
    tmp_path: Path, bytecode: Bytecode, files: list[Path], pytestconfig: pytest.Config
) -> None:
    """Where it fails the guest compiles as ever."""
    compile_ahead(pytestconfig, bytecode, files, tools_of(FailingPython, tmp_path))
    assert bytecode.find(files[0], files[0].read_bytes(), 0) == []


def test_interpreter_of_the_guest(tmp_path: Path) -> None:
    """Of the tools in the cache those count whose Python is the guest's; what is being made does not."""
    cache = Cache(tmp_path)
    for digit, python in (("a", "python3.12"), ("b", "python3.13")):
        (cache.folder("tools") / (digit * 64) / "usr/bin").mkdir(parents=True)
        os.symlink(python, cache.folder("tools") / (digit * 64) / "usr/bin/python3")
    (cache.folder("tools") / ".new").mkdir()
    (cache.folder("tools") / ("0" * 64)).mkdir()
    found = find_tools(cache, {"python": "3.13"})
    assert found is not None
    assert found.folder.name == "b" * 64
    assert find_tools(cache, {"python": "3.9"}) is None
    assert find_tools(cache, None) is None


def test_where_pytest_is() -> None:
    """All that rewriting imports is found, each folder once."""
    assert any((Path(place) / "_pytest").is_dir() for place in compiling._places())
    assert len(set(compiling._places())) == len(compiling._places())
