"""Which package may import which: the arrows of the house, read from every file and from running interpreters."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOUSES = ("impl", "vm", "conformance")
IMPL = tuple(sorted(path.parent.name for path in (ROOT / "impl").glob("*/__init__.py") if path.parent.name != "tests"))

# Importer -> what it may import from this repository, besides itself.
ARROWS: dict[str, set[str]] = {
    "kernelproof": set(),
    "impl": set(),
    "impl._syscalls": set(),
    "impl.graphdb": set(),
    "impl.user": {"impl._syscalls"},
    "impl.term": {"impl._syscalls"},
    "impl.listenbuffer": {"impl._syscalls", "impl.netlink"},
    "impl.netlink": {"impl._syscalls"},
    "impl.mount": {"impl._syscalls"},
    "impl.cgroups": {"impl.mount", "impl._syscalls"},
    "impl.libcontainer": {f"impl.{name}" for name in IMPL},
    "vm": {"vm.guest"},
    "vm.guest": set(),
    "conformance.plugin": {"conformance.report"},
    "conformance.report": set(),
    "conformance.tests": {"public", *(f"impl.{name}" for name in IMPL)},
    "cli": {"vm", "vm.guest", "conformance.plugin", "conformance.report", "public", *(f"impl.{name}" for name in IMPL)},
}
EVERYTHING = {"tests", "benchmarks"}

# Where the table also limits what comes from outside, besides the standard library.
OUTSIDE: dict[str, set[str]] = {
    "start": set(),
    "noxfile": {"nox"},
    "kernelproof": set(),
    "impl._syscalls": set(),
    "impl.graphdb": {"rich"},  # its command line alone
    "vm.guest": {"pytest", "_pytest"},
    "conformance.plugin": {"pytest", "_pytest"},
    "conformance.report": set(),
}

# Modules that importing one package alone may load besides what the interpreter had at its start; a tenth above what
# was measured with Python 3.11 to 3.13. A package without a row has the first one.
LOADED = {"": 60, "_syscalls": 90, "graphdb": 72, "term": 74, "user": 10}
SLOW = {"asyncio", "concurrent", "multiprocessing", "pyroute2", "pytest", "rich", "subprocess", "unittest", "xml"}


class Import(NamedTuple):
    """One imported name, dotted as far as it is a module."""

    name: str
    line: int
    only_types: bool  # under TYPE_CHECKING
    nested: bool  # inside a function
    reason: bool  # a comment on its line, or above it or the imports it stands among


def owner(path: Path) -> str:
    """The package that a file belongs to, by the table's names."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if "tests" in parts or parts[0] in EVERYTHING or parts == ("conftest",):
        return "tests"
    if parts[0] == "kernelproof":
        return "cli" if parts[1] == "cli" else "kernelproof"
    if parts[0] == "conformance" and parts[-1] != "__init__":
        statement = len(parts) > 2 and parts[1] != "report"
        return "conformance.tests" if statement or parts[-1] == "conftest" else target(parts)
    return target(parts)


def target(parts: tuple[str, ...]) -> str:
    """The package of a dotted name below `kernelproof`, by the table's names."""
    if parts[0] == "impl":
        return ".".join(parts[:2]) if len(parts) > 1 and parts[1] != "__init__" else "impl"
    if parts[0] == "vm":
        return "vm.guest" if parts[1:2] == ("guest",) else "vm"
    if parts[0] == "conformance":
        inner = parts[1] if len(parts) > 1 else "__init__"
        if (ROOT / "conformance" / inner).is_dir():
            return "conformance.report" if inner == "report" else "conformance.tests"
        return "conformance.tests" if inner == "conftest" else "conformance.plugin"
    return parts[0]


@cache
def read_imports(path: Path) -> tuple[Import, ...]:
    """Every import of a file."""
    return tuple(find_imports(path))


def find_imports(path: Path) -> Iterator[Import]:
    """Parse a file and walk over its statements: nothing else holds an import."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node, guarded, inner in walk_statements(ast.parse(text).body, guarded=False, inner=False):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in imported_names(node):
                reason = has_reason(lines, node.lineno - 1)
                yield Import(name, node.lineno, guarded, inner and not guarded, reason)


def walk_statements(body: Iterable[ast.stmt], *, guarded: bool, inner: bool) -> Iterator[tuple[ast.stmt, bool, bool]]:
    """Each statement of a body, the inner ones too: whether it is under TYPE_CHECKING, and whether in a function."""
    for node in body:
        yield node, guarded, inner
        only_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        deeper = inner or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        yield from walk_statements(getattr(node, "body", ()), guarded=guarded or only_types, inner=deeper)
        others = [getattr(node, "orelse", ()), getattr(node, "finalbody", ())]
        others += [part.body for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ()))]
        for other in others:
            yield from walk_statements(other, guarded=guarded, inner=deeper)


def has_reason(lines: list[str], place: int) -> bool:
    """Whether a comment says why an import stands where it does: on its line, or above it or its like."""
    if "#" in lines[place]:
        return True
    above = lines[place - 1].strip()
    return above.startswith("#") or (above.startswith(("from ", "import ")) and has_reason(lines, place - 1))


def imported_names(node: ast.Import | ast.ImportFrom) -> list[str]:
    """`from a import b` is a.b where that is a module of ours or a public name of the top, else a."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    module = "." * node.level + (node.module or "")
    return [
        f"{module}.{alias.name}" if module == "kernelproof" or is_module(f"{module}.{alias.name}") else module
        for alias in node.names
    ]


@cache
def is_module(name: str) -> bool:
    """Whether a dotted name is a file or folder of this repository."""
    path = ROOT.joinpath(*name.split("."))
    return name.startswith("kernelproof.") and (path.is_dir() or path.with_suffix(".py").is_file())


def imported_package(name: str) -> str | None:
    """The table's name of what an import of ours reaches; None for the bare top, which loads nothing."""
    parts = tuple(name.split(".")[1:])
    if parts in ((), ("__version__",)):
        return None
    return target(parts) if parts[0] in HOUSES else "cli" if parts[0] == "cli" else "public"


def sources() -> list[Path]:
    """Every Python file of the repository, by its real name."""
    folders = [*HOUSES, "tests", "benchmarks", "kernelproof/cli"]
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return [*found, ROOT / "kernelproof/__init__.py", *ROOT.glob("*.py")]


def test_every_package_has_a_row() -> None:
    """Each package of impl stands in the table."""
    assert {f"impl.{name}" for name in IMPL} <= set(ARROWS)
    assert len(sources()) > 40


def test_arrows_inside() -> None:
    """Every import between the packages of this repository is one that the table allows."""
    wrong = []
    for path in sources():
        importer = owner(path)
        for one in read_imports(path):
            if one.name.split(".")[0] != "kernelproof" or importer == "tests":
                continue
            reached = imported_package(one.name)
            # A type-only import runs nothing: the decorator's home for type checkers, the frame's fixtures for tests.
            typed = one.only_types and (importer, reached) in {
                *(("kernelproof", kind) for kind in ("vm", "vm.guest", "conformance.plugin")),
                ("conformance.tests", "conformance.plugin"),
            }
            if reached not in (None, importer) and reached not in ARROWS[importer] and not typed:
                wrong.append(f"{path.relative_to(ROOT)}:{one.line}: {importer} may not import {one.name}")
    assert wrong == []


def test_arrows_outside() -> None:
    """Where the table limits third-party packages, nothing else is imported."""
    wrong = []
    for path in sources():
        importer = path.stem if path.parent == ROOT else owner(path)
        for one in read_imports(path):
            top = one.name.split(".")[0]
            allowed = OUTSIDE.get(importer)
            if allowed is not None and top not in {*sys.stdlib_module_names, "kernelproof", *allowed}:
                wrong.append(f"{path.relative_to(ROOT)}:{one.line}: {importer} may not import {one.name}")
    assert wrong == []


def test_no_bare_or_relative_names() -> None:
    """The folders at the top are imported by their installed names only."""
    banned = [
        f"{path.relative_to(ROOT)}:{one.line}: {one.name}"
        for path in sources()
        for one in read_imports(path)
        if one.name.split(".")[0] in {"", *HOUSES}
    ]
    assert banned == []


def test_imports_inside_functions_say_why() -> None:
    """An import stands at the top of its file; one that does not has the reason on its line."""
    unexplained = [
        f"{path.relative_to(ROOT)}:{one.line}: {one.name}"
        for path in sources()
        if owner(path) != "tests"
        for one in read_imports(path)
        if one.nested and not one.reason
    ]
    assert unexplained == []


def loaded_by(statement: str) -> set[str]:
    """The modules that a statement adds to a new interpreter."""
    report = "import json; print(json.dumps(sorted(loaded)))"
    program = f"import sys; before = set(sys.modules); {statement}; loaded = set(sys.modules) - before; {report}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(done.stdout))


def test_importing_the_top_loads_nothing() -> None:
    """`import kernelproof` loads no other module of ours and nothing slow."""
    loaded = loaded_by("import kernelproof")
    assert {name for name in loaded if name.startswith("kernelproof")} == {"kernelproof"}
    assert {name.split(".")[0] for name in loaded} & {*SLOW, "dataclasses", "typing", "re"} == set()


@pytest.mark.parametrize("name", ["graphdb", "term", "user"])
def test_everything_from_a_package_that_loads_late(name: str) -> None:
    """`import *` gives the public names, although none of them is there before it is used."""
    program = f"import kernelproof.impl.{name} as package; names = set(dir(package))\n"
    program += f"from kernelproof.impl.{name} import *\nprint(len(names) > 5, names - set(globals()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout == "True set()\n", done.stderr


@pytest.mark.parametrize("name", IMPL)
def test_package_alone(name: str) -> None:
    """Imported alone, a package loads only its arrows, nothing slow, and few modules; a bare one, with its modules."""
    modules = sorted(path.stem for path in (ROOT / "impl" / name).glob("*.py") if path.stem != "__init__")
    bare = "import" not in (ROOT / "impl" / name / "__init__.py").read_text(encoding="utf-8")
    names = [f"{name}.{module}" for module in modules] if bare else [name]
    loaded = loaded_by("; ".join(f"import kernelproof.impl.{name}" for name in names))
    ours = {imported_package(module) for module in loaded if module.startswith("kernelproof.")}
    assert ours <= {"impl", f"impl.{name}", *ARROWS[f"impl.{name}"]}
    assert {module.split(".")[0] for module in loaded} & SLOW == set()
    assert len(loaded) <= LOADED.get(name, LOADED[""]), sorted(loaded)
