"""What is installed: the same files whichever way the wheel was built, under one name, in nobody's way."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement

from kernelproof import __version__
from kernelproof.conformance.catalogue import read_catalogue

ROOT = Path(__file__).resolve().parent.parent
IMPORT_ALL = """
import importlib, pkgutil, kernelproof
for module in pkgutil.walk_packages(kernelproof.__path__, "kernelproof."):
    if not module.name.rpartition(".")[2].startswith(("test_", "conftest", "__main__")):
        try:
            importlib.import_module(module.name)
        except Exception as error:
            if "pip install 'kernelproof[" not in str(error):
                raise
        else:
            print(module.name)
"""
FOREIGN = '''"""This repository's own; not kernelproof's."""
from pathlib import Path

import {name}

def test_own():
    assert Path({name}.__file__).is_relative_to(Path(__file__).parent.parent)
    assert {name}.OWNER == "somebody else"
'''


class Packages(NamedTuple):
    """A wheel from the tree, a source archive, and a wheel from that archive."""

    wheel: Path
    archive: Path
    wheel_of_archive: Path


class Installed(NamedTuple):
    """An environment that holds the wheel and what it declares to need, nothing else."""

    python: Path
    site: Path

    def run(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run its Python, away from the checkout and from this process's settings."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
        command = [str(self.python), *arguments]
        return subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True, check=False)


def build(kind: str, source: Path, target: Path) -> Path:
    """Build a wheel or sdist with the backend of this environment: no index is asked."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """Both ways to a wheel."""
    wheel = build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))
    archive = build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(archive) as tar:
        tar.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    return Packages(wheel, archive, build("wheel", source, tmp_path_factory.mktemp("wheel-of-sdist")))


def needed(
    requirements: list[str], seen: dict[str, metadata.Distribution], extra: str = ""
) -> dict[str, metadata.Distribution]:
    """The distributions that these requirements name here, with theirs; of extras this one, and none of theirs."""
    for text in requirements:
        requirement = Requirement(text)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if wanted and requirement.name not in seen:
            seen[requirement.name] = metadata.distribution(requirement.name)
            needed(metadata.requires(requirement.name) or [], seen)
    return seen


@pytest.fixture(scope="session")
def installed(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An environment with the wheel alone."""
    return install(packages.wheel, tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="session")
def observing(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An environment with the wheel and its extra `observe`."""
    return install(packages.wheel, tmp_path_factory.mktemp("observing"), "observe")


def install(wheel: Path, folder: Path, extra: str = "") -> Installed:
    """The wheel unpacked where pip would put it; its declared dependencies linked beside it."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (own,) = site.glob("kernelproof-*.dist-info")
    for distribution in needed(metadata.Distribution.at(own).requires or [], {}, extra).values():
        for top in {file.parts[0] for file in distribution.files or ()} - {".."}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    return Installed(folder / "bin/python", site)


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_of_tree_and_of_archive_agree(packages: Packages) -> None:
    """A wheel made from the source archive holds the files of a wheel made from the tree."""
    assert names(packages.wheel_of_archive) == names(packages.wheel)


def test_wheel_has_one_import_name(packages: Packages) -> None:
    """Nothing but kernelproof, its metadata, its scripts and its manual pages is installed."""
    tops = {name.split("/")[0] for name in names(packages.wheel)}
    assert {top for top in tops if not top.endswith((".dist-info", ".data"))} == {"kernelproof"}
    data = sorted(name.partition(".data/")[2] for name in names(packages.wheel) if ".data/" in name)
    manuals = [f"data/share/man/man1/{name}.1" for name in ("kernelproof", "nsinit")]
    assert data == [*manuals, "scripts/nsinit", "scripts/nsinit-python"]


def test_wheel_holds_every_module_and_data_file(packages: Packages) -> None:
    """Every Python, TOML, JSON and ini file of the house is in the wheel, except tests."""
    wanted = {
        f"kernelproof/{path.relative_to(ROOT)}"
        for folder in ("impl", "vm", "conformance")
        for suffix in ("py", "toml", "json", "ini")
        for path in (ROOT / folder).rglob(f"*.{suffix}")
        if "tests" not in path.parts and "__pycache__" not in path.parts
    }
    assert wanted
    assert wanted - names(packages.wheel) == set()
    assert [name for name in names(packages.wheel) if "/tests/" in name] == []
    assert "kernelproof/py.typed" in names(packages.wheel)


def test_archive_holds_each_file_once(packages: Packages) -> None:
    """The source archive has no second copy of the house under its bare names."""
    with tarfile.open(packages.archive) as archive:
        tops = {member.name.split("/")[1] for member in archive.getmembers()}
    assert tops.isdisjoint({"impl", "vm", "conformance"})
    assert "kernelproof" in tops


def test_installed_alone_it_imports(installed: Installed, tmp_path: Path) -> None:
    """Every module outside of the statements' tests imports with nothing but the declared dependencies.

    Or it is for an optional one, and says so with the extra's name.
    """
    done = installed.run("-W", "error", "-c", IMPORT_ALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"kernelproof.vm.plugin", "kernelproof.conformance.plugin", "kernelproof.cli.main"} <= set(
        done.stdout.split()
    )


def test_foreign_repository_keeps_its_names(installed: Installed, tmp_path: Path) -> None:
    """A repository with folders vm, impl and conformance of its own is tested by plain pytest as before."""
    for name in ("vm", "impl", "conformance"):
        (tmp_path / name / "tests").mkdir(parents=True)
        (tmp_path / name / "__init__.py").write_text('OWNER = "somebody else"\n')
        (tmp_path / name / "tests" / f"test_{name}.py").write_text(FOREIGN.format(name=name))
    done = installed.run("-m", "pytest", "-p", "no:cacheprovider", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    assert "kernelproof" in done.stdout.split("plugins:")[1].split("\n")[0]


def test_suite_needs_its_observers(installed: Installed, tmp_path: Path) -> None:
    """Without the extra the suite is not begun, and the remedy is told."""
    done = installed.run("-m", "kernelproof.cli", "conformance", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "pyroute2" in done.stderr
    assert "remedy: pip install 'kernelproof[observe]'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_installed_suite_can_be_listed(installed: Installed, tmp_path: Path) -> None:
    """The whole catalogue is there without a checkout."""
    done = installed.run("-m", "kernelproof.cli", "conformance", "--list", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    catalogue = read_catalogue([ROOT / "conformance" / "behaviours"])
    assert {row["id"]: row["statement"] for row in json.loads(done.stdout)} == {
        entry.id: entry.statement for entry in catalogue.entries.values()
    }


def commit_around(folder: Path) -> None:
    """Let a folder be a repository of somebody else's with a commit, where git is here."""
    if (git := shutil.which("git")) is not None:
        author = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
        subprocess.run([git, "init", "-q", "--initial-branch=main", str(folder)], check=True)
        subprocess.run([git, "-C", str(folder), *author, "commit", "-q", "--allow-empty", "-m", "begin"], check=True)


@pytest.mark.makes_machines
def test_installed_suite_runs(observing: Installed, tmp_path: Path) -> None:
    """A statement of the suite is checked from the wheel; results are written here, and nothing beside the tests."""
    commit_around(observing.site.parents[2])
    before = set(observing.site.rglob("*[!c]"))
    done = observing.run("-m", "kernelproof.cli", "conformance", "-k", "mydocker0", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "results/selected/6.12.json").read_text())
    (row,) = results["results"]
    assert row["outcome"] == "pass"
    assert row["node"].startswith("conformance/netlink/test_")
    assert (results["project"]["version"], results["project"]["commit"]) == (__version__, None)
    assert {path for path in set(observing.site.rglob("*[!c]")) - before if path.name != "__pycache__"} == set()


def copy_example(folder: Path) -> Path:
    """The example project as somebody would copy it: what git knows of it, or all without what runs leave behind."""
    left = shutil.ignore_patterns("__pycache__", ".pytest_cache", ".venv", ".cache", "results")
    return Path(shutil.copytree(ROOT / "docs/example", folder / "example", ignore=left))


def test_example_without_machines(installed: Installed, tmp_path: Path) -> None:
    """In an environment with the wheel alone, plain pytest runs the example's unit tests and no behaviour."""
    done = installed.run("-m", "pytest", "-p", "no:cacheprovider", "-rs", cwd=copy_example(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed, 5 skipped" in done.stdout
    assert "--kernel" in done.stdout


@pytest.mark.makes_machines
def test_example_on_two_kernels(installed: Installed, tmp_path: Path) -> None:
    """The example does on the oldest and the newest kernel what its README says, and its report can be made."""
    example = copy_example(tmp_path)
    done = installed.run("-m", "pytest", "-p", "no:cacheprovider", "--kernel", "oldest,newest", cwd=example)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "13 passed" in done.stdout
    shown = re.findall(r"(?m)^```\n(kernel 5\.10\n(?:.+\n)+)```$", (example / "README.md").read_text())
    assert shown[0] in done.stdout
    oldest, newest = sorted((example / "results").glob("*.json"), key=lambda path: path.stem != "5.10")
    outcomes = [
        {row["behaviour"]: row["outcome"] for row in json.loads(path.read_text())["results"]}
        for path in (oldest, newest)
    ]
    assert set(outcomes[0].values()) == {"pass"}
    assert {name for name, outcome in outcomes[1].items() if outcome != "pass"} == {"unix.stream.no-out-of-band"}
    for words in (("merge", "results", "-o", "all.json"), ("report", "all.json", "-o", "site", "-q")):
        done = installed.run("-m", "kernelproof.cli", *words, cwd=example)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (example / "site/index.html").is_file()
