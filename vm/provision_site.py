"""Makes the guest's Python packages: pytest as the host has it, and what the project asks for, locked.

The host's Python is not the guest's: only pure Python is copied, and pip resolves for the guest's version. Our own
package is not in it: it is pushed with the tests.
"""

from __future__ import annotations

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
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kernelproof.vm.apt import Apt
from kernelproof.vm.cpio import Member, make_file, write_newc
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.provision_context import Provisioning
from kernelproof.vm.provision_tools import Tools, compile_python
from kernelproof.vm.provision_types import Site
from kernelproof.vm.provision_unpack import Tree, read_packages
from kernelproof.vm.root import SUITES

RECIPE = 1  # raised when what is made of the same packages changes
PLACE = "usr/lib/python3/dist-packages"
FROM_HOST = ("pytest",)
PIP_PACKAGE = "python3-pip-whl"
_PLATFORMS = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux2014_x86_64")


@dataclass(frozen=True, slots=True)
class GuestWishes:
    """What a project asks for inside the guest.

    Args:
        requirements: As `[tool.kernelproof] guest-requirements` says.
        lock: The content of the lock file: a pip requirements file in which every line has its digests.
        origin: The lock file, for messages.
    """

    requirements: tuple[str, ...]
    lock: str
    origin: str


def read_wishes(project: Path | None) -> GuestWishes:
    """What `project` asks for: its `[tool.kernelproof]` table, or our own lock file where it has none.

    Raises:
        ProvisionError: the table can't be read, or names a lock file that can't be read.
    """
    table: dict[str, object] = {}
    if project is not None and (project / "pyproject.toml").is_file():
        table = _read_table(project / "pyproject.toml")
    requirements = table.get("guest-requirements", [])
    name = table.get("guest-lock")
    if not isinstance(requirements, list) or not all(isinstance(line, str) for line in requirements):
        raise _bad_table(project, "guest-requirements is no list of texts")
    if project is not None and isinstance(name, str):
        path = project / name
        try:
            return GuestWishes(tuple(requirements), path.read_text("utf-8"), str(path))
        except (OSError, ValueError) as error:
            raise ProvisionError("read guest lock", str(path), str(error), "make it with `kernelproof lock`") from error
    if requirements:
        raise _bad_table(project, "guest-requirements need a guest-lock, the name of a file")
    return GuestWishes((), files("kernelproof.vm").joinpath("guest.lock").read_text("utf-8"), "guest.lock")


def _read_table(path: Path) -> dict[str, object]:
    try:
        table = tomllib.loads(path.read_text("utf-8")).get("tool", {}).get("kernelproof", {})
    except (OSError, ValueError) as error:
        raise ProvisionError("read project", str(path), str(error), "mend that file") from error
    return table if isinstance(table, dict) else {}


def _bad_table(project: Path | None, detail: str) -> ProvisionError:
    return ProvisionError("read [tool.kernelproof]", f"{project}/pyproject.toml", detail, "mend that table")


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
    if distribution.files is None:
        raise ProvisionError("copy Python package", name, "no list of its files", f"install {name} with pip")
    for path in distribution.files:
        if path.is_absolute() or ".." in path.parts or path.suffix == ".pyc":
            continue
        if path.suffix in (".so", ".pyd"):
            raise ProvisionError("copy Python package", name, f"{path} is compiled", "name it in guest-requirements")
        try:
            data = Path(str(path.locate())).read_bytes()
        except OSError as error:
            raise ProvisionError("copy Python package", name, str(error), f"install {name} anew") from error
        yield make_file(f"{PLACE}/{path.as_posix()}", data)


def provide_site(context: Provisioning, tools: Tools, project: Path | None) -> Site:
    """The guest's Python packages, from the cache or made.

    Raises:
        ProvisionError: a package could not be had, is compiled for another machine, or is not what the lock says.
    """
    wishes = read_wishes(project)
    distributions = find_distributions(FROM_HOST, tools.python)
    record = {
        "copied": [f"{item.metadata['Name']}=={item.version}" for item in distributions],
        "records": [sha256((item.read_text("RECORD") or "").encode()).hexdigest() for item in distributions],
        "lock": wishes.lock,
        "recipe": RECIPE,
        "tools": tools.digest,
    }

    def make(work: Path) -> None:
        context.progress.step("build the guest's Python packages")
        _build(work, distributions, wishes, tools, context)

    entry = context.provide("site", record, lambda _: context.build("site", record, make))
    facts = json.loads((entry.folder / "facts.json").read_text("utf-8"))
    return Site(entry.folder / "site.cpio", entry.digest, tuple(facts["packages"]))


def _build(
    work: Path,
    distributions: Sequence[importlib.metadata.Distribution],
    wishes: GuestWishes,
    tools: Tools,
    context: Provisioning,
) -> None:
    tree = Tree()
    for distribution in distributions:
        for member in copy_distribution(distribution):
            tree.add(member)
    target = work / "target"
    _install_locked(wishes, target, tools.python, context)
    for path in sorted(target.rglob("*")):
        inside = path.relative_to(target)
        if path.is_file() and inside.parts[0] != "bin" and path.suffix != ".pyc":
            tree.add(make_file(f"{PLACE}/{inside.as_posix()}", path.read_bytes()))
    shutil.rmtree(target)
    scratch = work / "scratch"
    compile_python(tree, tools, scratch, f"{PLACE}/")
    shutil.rmtree(scratch)
    with (work / "site.cpio").open("wb") as file:
        write_newc(file, tree.members())
    facts = {"packages": sorted(_describe(tree))}
    (work / "facts.json").write_text(json.dumps(facts), "utf-8")


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


def _install_locked(wishes: GuestWishes, target: Path, python: str, context: Provisioning) -> None:
    target.mkdir()
    if all(line.lstrip().startswith("#") or not line.strip() for line in wishes.lock.splitlines()):
        return
    lock = target.with_name("guest.lock")
    lock.write_text(wishes.lock, "utf-8")
    command = [*find_pip(context), *plan_pip_install(lock, target, python)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    lock.unlink()
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()[-500:]]
        raise ProvisionError(
            "install the guest's Python packages",
            wishes.origin,
            " ".join(lines[:3]),
            "make the lock anew with `kernelproof lock`, or connect to the network",
        )


def find_pip(context: Provisioning) -> list[str]:
    """The words that start pip: this Python's, or the wheel that the distribution has of it.

    Raises:
        ProvisionError: the wheel could not be had.
    """
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]

    def make(apt: Apt) -> str:
        (package,) = apt.locate(apt.update(SUITES), [PIP_PACKAGE])
        record = {"package": package.sha256, "recipe": RECIPE}
        return context.build("pip", record, lambda work: unpack(work, apt.fetch([package])))

    def unpack(work: Path, debs: Sequence[Path]) -> None:
        tree = read_packages(debs, lambda path: path.startswith("usr/share/python-wheels/"))
        wheels = [member for member in tree.members() if Path(member.path).match("pip-*.whl")]
        if not wheels:
            raise ProvisionError("find pip", PIP_PACKAGE, "no wheel of pip in it", "install pip for this Python")
        (work / "pip.whl").write_bytes(wheels[0].data)

    entry = context.provide("pip", {"package": PIP_PACKAGE, "suites": SUITES, "recipe": RECIPE}, make)
    return [sys.executable, f"{entry.folder / 'pip.whl'}/pip"]
