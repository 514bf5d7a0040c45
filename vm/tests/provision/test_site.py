"""The guest's Python packages: what the host has of pytest, and what a project's lock names."""

from __future__ import annotations

import importlib.metadata
import json
from itertools import pairwise
from pathlib import Path

import pytest

from kernelproof.vm.cache import Cache
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.provision_lock import format_lock, lock_guest
from kernelproof.vm.provision_progress import SilentProgress
from kernelproof.vm.provision_site import (
    PLACE,
    GuestTable,
    copy_distribution,
    digest_kept,
    find_distributions,
    plan_pip_install,
    read_lock,
    read_table,
    summarize_pip,
)


def make_project(folder: Path, table: str, lock: str | None = None) -> Path:
    """A project with a table and a lock file `guest.lock`."""
    (folder / "pyproject.toml").write_text(table)
    if lock is not None:
        (folder / "guest.lock").write_text(lock)
    return folder


GOOD = "[tool.kernelproof]\nguest-requirements = ['b>=2', 'a']\nguest-lock = 'guest.lock'\n"


def test_table_is_read(tmp_path: Path) -> None:
    """Requirements and the lock file's path below the project."""
    project = make_project(tmp_path, GOOD)
    assert read_table(project) == GuestTable(("b>=2", "a"), tmp_path / "guest.lock")


@pytest.mark.parametrize("text", [None, "", "[tool.other]\n"])
def test_project_without_table_gets_our_lock(tmp_path: Path, text: str | None) -> None:
    """Who says nothing gets the observer that this package brings, with a digest."""
    if text is not None:
        make_project(tmp_path, text)
    lock = read_lock(tmp_path)
    assert lock == read_lock(None)
    assert "pyroute2==" in lock.text
    assert "--hash=sha256:" in lock.text


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("[tool.kernelproof]\nguest-requirements = 'a'\nguest-lock = 1\n", "no list of texts; guest-lock is no text"),
        ("[tool.kernelproof]\nguest-requirements = [1]\nguest-lock = 'x'\n", "no list of texts"),
        ("[tool.kernelproof]\nguest-requirements = ['a']\n", "need a guest-lock"),
        ("[tool.kernelproof\n", "read project"),
    ],
)
def test_table_that_is_wrong_is_told(tmp_path: Path, table: str, words: str) -> None:
    """Every problem of the table is told at once, with the file."""
    with pytest.raises(ProvisionError, match=words) as caught:
        read_table(make_project(tmp_path, table))
    assert "pyproject.toml" in str(caught.value)


def test_lock_for_these_requirements_is_taken(tmp_path: Path) -> None:
    """The order of requirements does not matter."""
    lock = "# requirements: a, b>=2\na==1 --hash=sha256:0\n"
    assert read_lock(make_project(tmp_path, GOOD, lock)).text == lock


@pytest.mark.parametrize("lock", [None, "", "# requirements: a\n", "# requirements: a, b>=3\na==1\n"])
def test_lock_for_others_is_refused(tmp_path: Path, lock: str | None) -> None:
    """A lock that is not there, or was made for other requirements, is refused with the command that makes it."""
    with pytest.raises(ProvisionError, match="read guest lock") as caught:
        read_lock(make_project(tmp_path, GOOD, lock))
    assert f"python -m kernelproof.vm.provision_lock {tmp_path}" in caught.value.remedy


def test_pytest_is_found_with_all_it_needs() -> None:
    """Its dependencies for the guest's Python are found, and only those."""
    names = {item.metadata["Name"].lower() for item in find_distributions(["pytest"], "3.13")}
    assert {"pytest", "pluggy", "iniconfig", "packaging"} <= names
    assert not {"exceptiongroup", "tomli", "colorama"} & names


def test_needs_follow_the_guest_s_python() -> None:
    """A marker is judged for the guest, not for the host."""
    with pytest.raises(ProvisionError, match=r"copy Python package: (exceptiongroup|tomli): not installed here"):
        find_distributions(["pytest"], "3.10")


def test_distribution_that_is_not_installed_is_told() -> None:
    """A name that nobody has is an error with a remedy."""
    with pytest.raises(ProvisionError, match="no-such-thing: not installed here"):
        find_distributions(["no-such-thing"], "3.13")


def make_distribution(folder: Path, files: dict[str, bytes]) -> importlib.metadata.Distribution:
    """An installed distribution of these files."""
    info = folder / "thing-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1\n")
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in files))
    return importlib.metadata.Distribution.at(info)


def test_files_are_copied_without_scripts_and_bytecode(tmp_path: Path) -> None:
    """Modules and data lie below the guest's place; what lies outside the package's folder does not come along."""
    site = tmp_path / "lib" / "site"
    site.mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/thing").write_bytes(b"#!")
    distribution = make_distribution(
        site,
        {"thing/__init__.py": b"x", "thing/data.txt": b"d", "thing/__pycache__/x.pyc": b"p", "../../bin/thing": b"#!"},
    )
    assert {member.path: member.data for member in copy_distribution(distribution)} == {
        f"{PLACE}/thing/__init__.py": b"x",
        f"{PLACE}/thing/data.txt": b"d",
    }


def test_place_of_the_environment_changes_nothing(tmp_path: Path) -> None:
    """A script's digest is that of the environment's path: neither it nor any template depends on where that lies."""
    copies, digests = [], []
    for place, digest in (("one", "sha256=a"), ("two", "sha256=b")):
        site = tmp_path / place
        site.mkdir()
        distribution = make_distribution(site, {"thing/__init__.py": b"x", "thing/RECORD": b"its own"})
        record = f"../../bin/thing,{digest},9\nthing/RECORD,sha256=c,7\nthing-1.dist-info/RECORD,,\n"
        (site / "thing-1.dist-info/RECORD").write_text(record)
        copies.append({member.path: member.data for member in copy_distribution(distribution)})
        digests.append(digest_kept(distribution))
    assert copies[0] == copies[1]
    assert copies[0][f"{PLACE}/thing-1.dist-info/RECORD"].splitlines() == [
        b"thing/RECORD,sha256=c,7",
        b"thing-1.dist-info/RECORD,,",
    ]
    assert copies[0][f"{PLACE}/thing/RECORD"] == b"its own"
    assert digests[0] == digests[1]


def test_compiled_code_is_refused(tmp_path: Path) -> None:
    """The host's compiled code can't run in the guest: it has to be asked for."""
    distribution = make_distribution(tmp_path, {"thing.cpython-311-x86_64-linux-gnu.so": b"\x7fELF"})
    with pytest.raises(ProvisionError, match="is compiled") as caught:
        list(copy_distribution(distribution))
    assert "guest-requirements" in caught.value.remedy


def test_file_that_is_gone_is_told(tmp_path: Path) -> None:
    """A half-removed package is named."""
    distribution = make_distribution(tmp_path, {"thing.py": b"x"})
    (tmp_path / "thing.py").unlink()
    with pytest.raises(ProvisionError, match="copy Python package: thing"):
        list(copy_distribution(distribution))


def test_package_without_list_of_files_is_told(tmp_path: Path) -> None:
    """A package that some other installer put there can't be copied: its files are unknown."""
    distribution = make_distribution(tmp_path, {"thing.py": b"x"})
    (tmp_path / "thing-1.dist-info/RECORD").unlink()
    with pytest.raises(ProvisionError, match="no list of its files"):
        list(copy_distribution(distribution))


def test_pip_takes_nothing_but_what_is_locked() -> None:
    """Digests are required, dependencies not followed, sources not built, and all for the guest's Python."""
    words = plan_pip_install(Path("/lock"), Path("/target"), "3.13")
    for word in ("--require-hashes", "--no-deps", "--no-input"):
        assert word in words
    pairs = list(pairwise(words))
    for pair in (("--only-binary", ":all:"), ("--python-version", "3.13"), ("--abi", "cp313"), ("--target", "/target")):
        assert pair in pairs


def make_report(**changes: object) -> dict[str, object]:
    """An installation report of pip, as its specification says, of two packages."""
    items = [
        {
            "metadata": {"name": name, "version": version},
            "download_info": {"url": f"https://files.example/{name}", "archive_info": {"hashes": {"sha256": digest}}},
        }
        for name, version, digest in (("Zoo_Keeper", "2.0", "f" * 64), ("ant", "1", "0" * 64))
    ]
    return {"version": "1", "install": items, **changes}


def test_lock_names_each_version_and_digest() -> None:
    """Sorted, with normal names, and with what it was made for."""
    text = format_lock(["zoo-keeper", "ant<2"], make_report(), ())
    assert text.splitlines()[1:] == [
        "# requirements: ant<2, zoo-keeper",
        "ant==1 \\",
        f"    --hash=sha256:{'0' * 64}",
        "zoo-keeper==2.0 \\",
        f"    --hash=sha256:{'f' * 64}",
    ]


def test_what_comes_from_the_host_is_not_locked() -> None:
    """A package that is copied from the host has no line, by whatever spelling of its name."""
    assert "zoo" not in format_lock([], make_report(), {"zoo-keeper"}).lower()


@pytest.mark.parametrize(
    "report",
    [
        make_report(version="2"),
        make_report(install=[{"metadata": {"name": "a", "version": "1"}, "download_info": {"url": "git+x"}}]),
    ],
)
def test_report_without_digest_is_refused(report: dict[str, object]) -> None:
    """What can't be pinned is not locked."""
    with pytest.raises(ValueError, match=r"version '2'|no SHA-256"):
        format_lock([], json.loads(json.dumps(report)), ())


def test_project_without_lock_name_can_not_be_locked(tmp_path: Path) -> None:
    """The command says which word is missing, before it asks any network."""
    with pytest.raises(ProvisionError, match="no guest-lock"):
        lock_guest(make_project(tmp_path, ""), cache=Cache(tmp_path / "cache"), progress=SilentProgress())


def test_what_pip_said_is_told() -> None:
    """Errors come first, with the first sign of a network that can't be reached."""
    text = "WARNING: Retrying (a)\nWARNING: Retrying (b)\nERROR: no version\nERROR: no distribution\n[notice] x\n"
    assert summarize_pip(text) == "WARNING: Retrying (a) ERROR: no version ERROR: no distribution"
    assert summarize_pip("usage: pip\n") == "usage: pip"
    assert summarize_pip("") == "pip said nothing"
