"""Makes the guest's Python packages: pytest as the host has it, and what the project asks for, locked.

The host's Python is not the guest's: only pure Python is copied, and pip resolves for the guest's version. Our own
package is not in it: it is pushed with the tests.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kernelproof.vm.apt import Apt
from kernelproof.vm.cpio import Member, make_file, write_newc
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.provision_context import Provisioning
from kernelproof.vm.provision_tools import Tools, compile_python
from kernelproof.vm.provision_types import Site
from kernelproof.vm.provision_unpack import Tree, read_packages

RECIPE = 1  # raised when what is made of the same packages changes
PLACE = "usr/lib/python3/dist-packages"
FROM_HOST = ("pytest",)
PIP_PACKAGE = "python3-pip-whl"
_PLATFORMS = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux2014_x86_64")


@dataclass(frozen=True, slots=True)
class GuestTable:
    """A project's `[tool.kernelproof]`, as far as it is about the guest's Python packages.

    Args:
        requirements: `guest-requirements`: what the guest needs beside pytest, as pip takes it.
        lock: `guest-lock`: the file that says which versions, with digests; None if the table names none.
    """

    requirements: tuple[str, ...]
    lock: Path | None


@dataclass(frozen=True, slots=True)
class GuestLock:
    """A pip requirements file in which every line has its digests.

    Args:
        text: Its content.
        origin: Its name, for messages.
    """

    text: str
    origin: str


def read_table(project: Path) -> GuestTable:
    """The table of `project`; an empty one if it has none, or no `pyproject.toml`.

    Raises:
        ProvisionError: the file can't be read, or the table holds something else than it should.
    """
    path = project / "pyproject.toml"
    try:
        table = tomllib.loads(path.read_text("utf-8")).get("tool", {}).get("kernelproof", {})
    except FileNotFoundError:
        table = {}
    except (OSError, ValueError) as error:
        raise ProvisionError("read project", str(path), str(error), "mend that file") from error
    requirements, lock = table.get("guest-requirements", []), table.get("guest-lock")
    problems = []
    if not isinstance(requirements, list) or not all(isinstance(line, str) for line in requirements):
        problems.append("guest-requirements is no list of texts")
    if not isinstance(lock, str | None):
        problems.append("guest-lock is no text")
    if requirements and lock is None:
        problems.append("guest-requirements need a guest-lock, the name of a file")
    if problems:
        raise ProvisionError("read [tool.kernelproof]", str(path), "; ".join(problems), "mend that table")
    return GuestTable(tuple(requirements), None if lock is None else project / lock)


def read_lock(project: Path | None) -> GuestLock:
    """The lock file of `project`, or our own where the project has no table.

    Raises:
        ProvisionError: the project's table or lock can't be read, or the lock was made for other requirements.
    """
    table = GuestTable((), None) if project is None else read_table(project)
    if table.lock is None:
        return GuestLock(files("kernelproof.vm").joinpath("guest.lock").read_text("utf-8"), "guest.lock")
    remedy = f"make it with `python -m kernelproof.vm.provision_lock {project}`"
    try:
        text = table.lock.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ProvisionError("read guest lock", str(table.lock), str(error), remedy) from error
    if format_requirements(table.requirements) not in text:
        detail = f"not made for {', '.join(table.requirements)}"
        raise ProvisionError("read guest lock", str(table.lock), detail, remedy)
    return GuestLock(text, str(table.lock))


def format_requirements(requirements: Sequence[str]) -> str:
    """The line of a lock file that says what it was made for."""
    return f"# requirements: {', '.join(sorted(requirements))}\n"


def find_distributions(names: Sequence[str], python: str) -> tuple[importlib.metadata.Distribution, ...]:
    """The installed distributions `names` with all they need on the guest's Python, sorted by name.

    Raises:
        ProvisionError: one is not installed here.
    """
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise ProvisionError(
                "copy Python package", name, "not installed here", f"install {name} beside kernelproof"
            ) from error
        needs = map(Requirement, found[name].requires or [])
        waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate(environment)]
    return tuple(found[name] for name in sorted(found))


def copy_distribution(distribution: importlib.metadata.Distribution) -> Iterable[Member]:
    """The files of an installed distribution as members below the guest's `PLACE`, without scripts and bytecode.

    Raises:
        ProvisionError: it has no list of files, a file of it is gone, or it has compiled code.
    """
    name = distribution.metadata["Name"]
    kept = _list_kept(distribution)
    if kept is None:
        raise ProvisionError("copy Python package", name, "no list of its files", f"install {name} with pip")
    for path, _ in kept:
        if path.suffix in (".so", ".pyd"):
            raise ProvisionError("copy Python package", name, f"{path} is compiled", "name it in guest-requirements")
        try:
            data = Path(str(distribution.locate_file(path))).read_bytes()
        except OSError as error:
            raise ProvisionError("copy Python package", name, str(error), f"install {name} anew") from error
        if path.name == "RECORD" and path.parent.suffix == ".dist-info":
            data = "".join(f"{line}\n" for _, line in kept).encode()
        yield make_file(f"{PLACE}/{path.as_posix()}", data)


def _list_kept(distribution: importlib.metadata.Distribution) -> list[tuple[PurePosixPath, str]] | None:
    """What the guest has of a distribution, each with its line of RECORD; None if it has no RECORD.

    Not its scripts, whose digests tell where the environment lies: of that no template is to depend.
    """
    record = distribution.read_text("RECORD")
    if record is None:
        return None
    lines = filter(None, record.splitlines())  # Distribution.files passes over what is gone
    named = [(PurePosixPath(next(csv.reader([line]))[0]), line) for line in lines]
    return [
        (path, line)
        for path, line in named
        if not path.is_absolute() and ".." not in path.parts and path.suffix != ".pyc"
    ]


def digest_kept(distribution: importlib.metadata.Distribution) -> str:
    """The SHA-256 of what RECORD says of the files that the guest has."""
    return sha256("\n".join(line for _, line in _list_kept(distribution) or ()).encode()).hexdigest()


def provide_site(context: Provisioning, tools: Tools, project: Path | None, python: str) -> Site:
    """The guest's Python packages, from the cache or made.

    Args:
        context: The provisioning.
        tools: Make bytecode, if their Python is the guest's.
        project: The folder whose `pyproject.toml` says which; None for our own.
        python: The guest's: `3.13`.

    Raises:
        ProvisionError: a package could not be had, is compiled for another machine, or is not what the lock says.
    """
    lock = read_lock(project)
    distributions = find_distributions(FROM_HOST, python)
    record = {
        "copied": [f"{item.metadata['Name']}=={item.version}" for item in distributions],
        "records": [digest_kept(item) for item in distributions],
        "lock": lock.text,
        "recipe": RECIPE,
        "tools": tools.digest,
        **({} if python == tools.python else {"python": python}),
    }

    def make(work: Path) -> None:
        context.progress.step("build the guest's Python packages")
        _build(work, distributions, lock, tools, context, python)

    entry = context.provide("site", record, lambda _: context.build("site", record, make))
    facts = json.loads((entry.folder / "facts.json").read_text("utf-8"))
    return Site(entry.folder / "site.cpio", entry.digest, tuple(facts["packages"]))


def _build(
    work: Path,
    distributions: Sequence[importlib.metadata.Distribution],
    lock: GuestLock,
    tools: Tools,
    context: Provisioning,
    python: str,
) -> None:
    tree = Tree()
    for distribution in distributions:
        for member in copy_distribution(distribution):
            tree.add(member)
    target = work / "target"
    _install_locked(lock, target, python, context)
    _check_no_second(target, distributions, lock)
    for path in sorted(target.rglob("*")):
        inside = path.relative_to(target)
        if path.is_file() and inside.parts[0] != "bin" and path.suffix != ".pyc":
            tree.add(make_file(f"{PLACE}/{inside.as_posix()}", path.read_bytes()))
    shutil.rmtree(target)
    if python == tools.python:
        compile_python(tree, tools, work, f"{PLACE}/")
    with (work / "site.cpio").open("wb") as file:
        write_newc(file, tree.members())
    facts = {"packages": sorted(_describe(tree))}
    (work / "facts.json").write_text(json.dumps(facts), "utf-8")


def _check_no_second(target: Path, distributions: Iterable[importlib.metadata.Distribution], lock: GuestLock) -> None:
    # Two versions of pytest in one guest, half of each, would be a riddle.
    locked = {canonicalize_name(item.metadata["Name"]) for item in importlib.metadata.distributions(path=[str(target)])}
    twice = locked & {canonicalize_name(item.metadata["Name"]) for item in distributions}
    if twice:
        names = ", ".join(sorted(twice))
        raise ProvisionError(
            "install the guest's Python packages", lock.origin, f"names {names}", "leave out what comes from the host"
        )


def _describe(tree: Tree) -> Iterable[str]:
    for member in tree.members():
        if member.path.endswith(".dist-info/METADATA"):
            name, _, version = member.path.split("/")[-2].removesuffix(".dist-info").rpartition("-")
            yield f"{canonicalize_name(name)}=={version}"


def plan_pip_install(lock: Path, target: Path, python: str) -> list[str]:
    """The words of a pip that installs for the guest's Python, and nothing that the lock does not name."""
    return [
        *("install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--no-compile"),
        *("--only-binary", ":all:", "--require-hashes", "--requirement", str(lock), "--target", str(target)),
        *plan_pip_target(python),
    ]


def plan_pip_target(python: str) -> list[str]:
    """The words that make pip resolve for the guest: CPython `python` on x86-64 with the GNU libc."""
    abi = "cp" + python.replace(".", "")
    platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
    return [
        "--python-version",
        python,
        "--implementation",
        "cp",
        "--abi",
        abi,
        "--abi",
        "abi3",
        "--abi",
        "none",
        *platforms,
    ]


def _install_locked(lock: GuestLock, target: Path, python: str, context: Provisioning) -> None:
    target.mkdir()
    if all(line.lstrip().startswith("#") or not line.strip() for line in lock.text.splitlines()):
        return
    path = target.with_name("guest.lock")
    path.write_text(lock.text, "utf-8")
    command = [*find_pip(context), *plan_pip_install(path, target, python)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    path.unlink()
    if done.returncode:
        raise ProvisionError(
            "install the guest's Python packages",
            lock.origin,
            summarize_pip(done.stderr),
            "connect to the network; if a digest differs, find out why before you make the lock anew",
        )


def summarize_pip(text: str) -> str:
    """The lines of pip's messages that say best what went wrong; a network it can't reach is but a warning to it."""
    lines = text.strip().splitlines()
    telling = [line for line in lines if line.startswith("WARNING: Retrying")][:1]
    telling += [line for line in lines if line.startswith("ERROR")][:2]
    return " ".join(telling or lines[-1:])[:600] or "pip said nothing"


def find_pip(context: Provisioning) -> list[str]:
    """The words that start pip: this Python's, or the wheel that the distribution has of it.

    Raises:
        ProvisionError: the wheel could not be had.
    """
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]

    def make(apt: Apt) -> str:
        (package,) = apt.locate(apt.update(context.suites), [PIP_PACKAGE])
        record = {"package": package.sha256, "recipe": RECIPE}
        return context.build("pip", record, lambda work: unpack(work, apt.fetch([package])))

    def unpack(work: Path, debs: Sequence[Path]) -> None:
        tree = read_packages(debs, lambda path: path.startswith("usr/share/python-wheels/"))
        wheels = [member for member in tree.members() if Path(member.path).match("pip-*.whl")]
        if not wheels:
            raise ProvisionError("find pip", PIP_PACKAGE, "no wheel of pip in it", "install pip for this Python")
        (work / "pip.whl").write_bytes(wheels[0].data)

    entry = context.provide("pip", {"package": PIP_PACKAGE, "suites": context.suites, "recipe": RECIPE}, make)
    return [sys.executable, f"{entry.folder / 'pip.whl'}/pip"]
