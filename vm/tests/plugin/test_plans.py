"""What is pushed and what is forwarded, decided by value."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.vm import push
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.forward import parse_settings, plan_options, plan_path, plan_plugins
from kernelproof.vm.guest import clipping
from kernelproof.vm.guest.session_request import SessionRequest, plan_arguments
from kernelproof.vm.selection import append_suffix, seed_for
from kernelproof.vm.sessions import explain_output


def test_options() -> None:
    """Plain values travel but those that are the host's; without capture the guest captures all the same."""
    options = {"tbstyle": "short", "verbose": 2, "mine": ["x"], "odd": object(), "pair": (1, 2), "keyword": "x"}
    assert plan_options({**options, "usepdb": True, "xmlpath": "out.xml", "capture": "no"}) == {
        "tbstyle": "short",
        "verbose": 2,
        "mine": ["x"],
        "capture": "fd",
    }
    assert plan_options({"capture": "sys"}) == {"capture": "sys"}


def test_plugins() -> None:
    """The guest loads our fixtures, the conformance plugin, the project's and the command line's, each once."""
    named = ["xdist", "mine", "no:logging", "no:terminal", "kernelproof.vm.plugin", "mine"]
    assert plan_plugins(named, ["theirs"], conformance=True) == [
        "kernelproof.vm.guest.fixtures",
        "kernelproof.conformance.plugin",
        "theirs",
        "mine",
        "no:logging",
    ]
    assert plan_plugins([], [], conformance=False) == ["kernelproof.vm.guest.fixtures"]


def test_path() -> None:
    """Folders of the import path that lie in the project keep their side of the standard library."""
    path = ["", "/p/src", "/usr/lib/python3", "/p/.venv/lib", "/p/late", "/elsewhere"]
    first, last = plan_path(path, Path("/p"), "/usr/lib/python3", "/p/.venv")
    assert (first, last) == (["/p/src"], ["/p/late"])


@pytest.mark.parametrize("text", ["[tool]\nkernelproof = 5", "[tool.kernelproof]\nguest-files = [1]", "[[["])
def test_wrong_settings(text: str) -> None:
    """Settings of another shape are refused with the file's name."""
    with pytest.raises(ProvisionError, match=r"pyproject\.toml"):
        parse_settings(text, "pyproject.toml")


def test_arguments() -> None:
    """The guest's command line names root, file, plugins and tests, and nothing of the project's addopts counts."""
    request = SessionRequest("/p", ("/p/test_a.py",), ("mine",), {}, "/p", "/p/pytest.ini", {}, ())
    assert plan_arguments(request) == [
        *("-o", "addopts=", "-o", "required_plugins="),
        *("--rootdir", "/p", "-c", "/p/pytest.ini", "-p", "mine", "/p/test_a.py"),
    ]


@pytest.mark.parametrize(
    ("output", "detail"),
    [
        ('ERROR: Error importing plugin "x.y": No module named', "the guest lacks the pytest plugin x.y"),
        ('Error while loading plugin "x"', "the guest lacks the pytest plugin x"),
        ("ImportError while loading conftest '/p/conftest.py'.", "/p/conftest.py can't be imported in the guest"),
        ("Unknown config option: shape", "the guest's pytest does not know the ini name shape"),
        ("something else", "pytest ended in the guest before any test"),
    ],
)
def test_what_pytest_said(output: str, detail: str) -> None:
    """Each of pytest's refusals has a sentence and a remedy."""
    found, remedy = explain_output(output)
    assert found == detail
    assert remedy


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a/test_x.py::test_y", "a/test_x.py::test_y@6.12"),
        ("a/test_x.py::Test::test_y[p::q[1]]", "a/test_x.py::Test::test_y@6.12[p::q[1]]"),
        ("a/test_x[1].py::test_y[2]", "a/test_x[1].py::test_y@6.12[2]"),
        ("test_y[2]", "test_y@6.12[2]"),
    ],
)
def test_kernel_in_a_node_id(before: str, after: str) -> None:
    """The kernel stands behind the last name and before the parameters."""
    assert append_suffix(before, "@6.12") == after


def test_seed() -> None:
    """A test's seed depends on its node id alone."""
    assert seed_for("a::b") == seed_for("a::b") != seed_for("a::c")
    assert 0 <= seed_for("a\udc80") < 1 << 63


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with tracked, ignored, hidden, large and linked files."""
    for name in (
        "conftest.py",
        "pkg/__init__.py",
        "pkg/deep/test_a.py",
        "pkg/deep/conftest.py",
        "data.bin",
        ".hidden/x",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "data.bin").write_bytes(b"x" * (push.SMALL_FILE + 1))
    (tmp_path / "link").symlink_to("pkg")
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    return tmp_path


def _names(root: Path, paths: list[Path]) -> set[str]:
    return {str(path.relative_to(root)) for path in paths}


def test_files_without_git(project: Path) -> None:
    """Without git all small files go, hidden folders and environments left out, links as links."""
    tests = [project / "pkg/deep/test_a.py"]
    assert _names(project, push.plan_files(project, tests, [], [])) == {
        *("conftest.py", "pkg/__init__.py", "pkg/deep/test_a.py", "pkg/deep/conftest.py", "link")
    }


@pytest.mark.skipif(shutil.which("git") is None, reason="not applicable: there is no git here")
def test_files_with_git(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With git what it ignores stays, but for what pytest reads on the way to a test; what was deleted is no error."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    (project / ".gitignore").write_text("deep/\ndata.bin\nenv/\n")
    (project / "gone.py").touch()
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    subprocess.run(["git", "-C", str(project), "add", "."], check=True)
    (project / "gone.py").unlink()
    (project / "new.py").touch()
    tests = [project / "pkg/deep/test_a.py"]
    planned = push.plan_files(project, tests, [], [])
    assert _names(project, planned) == {
        *(".gitignore", ".hidden/x", "conftest.py", "gone.py", "link", "new.py"),
        *("pkg/__init__.py", "pkg/deep/test_a.py", "pkg/deep/conftest.py"),
    }
    with tarfile.open(fileobj=io.BytesIO(push.pack(planned))) as archive:
        members = {member.name: member for member in archive}
    assert str(project / "gone.py").lstrip("/") not in members
    link = members[str(project / "link").lstrip("/")]
    assert (link.type, link.linkname, link.uid) == (tarfile.SYMTYPE, "pkg", 0)


def test_files_by_pattern(project: Path) -> None:
    """Patterns leave out all of the project that matches none, but not what a test needs."""
    tests = [project / "pkg/deep/test_a.py"]
    assert _names(project, push.plan_files(project, tests, [], ["pkg/_*"])) == {
        *("conftest.py", "pkg/__init__.py", "pkg/deep/test_a.py", "pkg/deep/conftest.py")
    }


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        (["*.py"], ["pkg/test_a.py", "pkg/b.py"]),
        (["!*/test_*.py"], ["pkg/b.py", "data"]),
        (["!*/test_*.py", "pkg/*"], ["pkg/b.py"]),
        (["!*"], []),
    ],
)
def test_what_patterns_choose(patterns: list[str], chosen: list[str]) -> None:
    """A pattern after a `!` takes away what the others choose, or of all files if there are no others."""
    assert [path for path in ("pkg/test_a.py", "pkg/b.py", "data") if push.is_chosen(path, patterns)] == chosen


def test_too_many_bytes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of more bytes than a machine gets are refused; the largest are named."""
    monkeypatch.setattr(push, "TOTAL_LIMIT", push.SMALL_FILE)
    with pytest.raises(ProvisionError, match=r"data\.bin \(1048577 bytes\)"):
        push.pack([project / "conftest.py", project / "data.bin"])


def test_package_is_whole(tmp_path: Path) -> None:
    """The files of a package whose parts are links are listed as if they were none; its tests are left out."""
    (tmp_path / "impl" / "tests").mkdir(parents=True)
    (tmp_path / "impl" / "tests" / "test_x.py").touch()
    (tmp_path / "impl" / "code.py").touch()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "impl").symlink_to("../impl")
    assert push.list_package_files(tmp_path / "package") == [tmp_path / "package" / "impl" / "code.py"]


@given(text=st.text(max_size=3000), limit=st.integers(200, 2000))
def test_clipped_text(text: str, limit: int) -> None:
    """Text that is too long keeps its beginning and its end, and fits when it is sent."""
    clipped = clipping.clip_text(text, limit)
    assert len(json.dumps(clipped)) <= limit
    if len(json.dumps(text)) <= limit:
        assert clipped == text
    else:
        assert "kernelproof cut" in clipped


@pytest.mark.parametrize(("size", "kept"), [(100, 100), (101, None), (5000, None)])
def test_clipped_file(size: int, kept: int | None, tmp_path: Path) -> None:
    """A file that is too long keeps its beginning and its end; a shorter one is not touched."""
    content = bytes(index % 251 for index in range(size))
    with (tmp_path / "out").open("w+b") as file:
        file.write(content)
        file.flush()
        clipping.clip_file(file.fileno(), 100)
        found = os.pread(file.fileno(), 1 << 20, 0)
    assert (found[:50], found[-50:]) == (content[:50], content[-50:])
    assert (found == content) is (kept == size)
    assert (f"cut {size - 100} bytes".encode() in found) is (kept is None)


def test_clipped_report() -> None:
    """Of a report that is too long the latest output is kept before the earlier, and its traceback becomes a text."""
    big = "x" * clipping.OUTPUT_LIMIT
    data = {
        "sections": [("first", big), ("last", "short")],
        "longrepr": {"lines": [big]},
        "user_properties": [("p", big)],
    }
    clipped = clipping.clip_report({**data, "extra": big}, big)
    assert len(json.dumps(clipped)) < 16 * 1024 * 1024
    assert clipped["sections"][1] == ["last", "short"]  # type: ignore[index]
    assert isinstance(clipped["longrepr"], str)
    assert clipped["user_properties"] == [
        ["kernelproof-cut", f"kernelproof cut user_properties: more than {1 << 20} bytes"]
    ]
