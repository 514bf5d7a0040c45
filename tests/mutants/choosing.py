"""Which machine tests may run a function: read from the names that the sources mention, as tracing them all takes long.

The answer is a guess, nearest tests first. A test that is run tells whether it came to the function, so a wrong guess
costs a machine and says nothing false.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_DEPTH = 7  # functions between a test and the one that is looked for
_CALLED_BY_CLASS = frozenset({"__init__", "__new__", "__enter__", "__exit__", "__call__", "__iter__"})


class Node(NamedTuple):
    """A function, a fixture or a test.

    Args:
        path: Relative to the root.
        name: Qualified.
    """

    path: str
    name: str

    @property
    def is_test(self) -> bool:
        return self.path.rpartition("/")[2].startswith("test_") and self.name.rpartition(".")[2].startswith("test_")

    @property
    def mentioned_as(self) -> str:
        """The name by which others call it."""
        outer, _, own = self.name.rpartition(".")
        return outer.rpartition(".")[2] if own in _CALLED_BY_CLASS and outer else own


class Graph:
    """Who mentions whom.

    Args:
        root: The project's root.
    """

    def __init__(self, root: Path) -> None:
        self._mentions: dict[str, list[Node]] = defaultdict(list)
        self._reach: dict[str, frozenset[str]] = {}  # by file: the packages and folders whose names it may mean
        for path in _source_files(root):
            self._read(str(path.relative_to(root)), ast.parse(path.read_text("utf-8")))

    def _read(self, path: str, tree: ast.Module) -> None:
        self._reach[path] = frozenset({_home(path), *_imported(tree)})
        for name, function in _functions(tree.body, ""):
            node = Node(path, name)
            for word in _words(function):
                self._mentions[word].append(node)

    def nearest_tests(self, path: str, function: str) -> list[Node]:
        """Test functions that may come to a function, the nearest first."""
        start = Node(path, function)
        seen = {start}
        tests: list[Node] = []
        level = [start]
        for _ in range(_DEPTH):
            found = sorted({caller for node in level for caller in self._callers(node)} - seen)
            seen.update(found)
            tests += [node for node in found if node.is_test]
            level = [node for node in found if not node.is_test]
        return tests

    def _callers(self, node: Node) -> Iterator[Node]:
        home = _home(node.path)
        for caller in self._mentions[node.mentioned_as]:
            if home in self._reach[caller.path] or _is_beside(node.path, caller.path):
                yield caller


def _source_files(root: Path) -> Iterable[Path]:
    yield from sorted((root / "impl").glob("*/**/*.py"))
    yield from sorted((root / "conformance").glob("*/*.py"))
    yield root / "conformance" / "conftest.py"


def _home(path: str) -> str:
    """`impl/mount/…` is impl/mount, with the folder of its tests apart from it."""
    parts = path.split("/")
    return "/".join(parts[:-1]) if "tests" in parts or parts[0] == "conformance" else "/".join(parts[:2])


def _is_beside(helper: str, test: str) -> bool:
    # A conftest, or a module of the same folder or one above.
    return not helper.startswith("impl/") or ("/tests/" in helper and test.startswith(helper.rpartition("/")[0]))


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if isinstance(node, ast.ImportFrom) and name == "kernelproof.impl":
                yield from (f"impl/{alias.name}" for alias in node.names)
            elif name.startswith("kernelproof.impl."):
                yield "/".join(name.split(".")[1:3])


def _functions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.AST]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node.body, f"{prefix}{node.name}.")


def _words(function: ast.AST) -> set[str]:
    words = set()
    for node in ast.walk(function):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.arg(arg=word):
                words.add(word)
    return words
