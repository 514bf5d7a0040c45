"""Finds the test of each statement in a suite's files: place and text. Nothing is imported or run."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

from kernelproof.conformance.report.statements import SuiteTest

_DECORATOR = "@behaviour("
_FOREIGN = {"node_modules", "build", "dist", "site-packages"}


def read_tests(folder: Path, root: Path) -> dict[str, tuple[SuiteTest, ...]]:
    """The tests below a folder, by the id that their decorator names.

    Args:
        folder: The suite.
        root: What paths are told from.

    Raises:
        OSError: a file can't be read.
        ValueError: a file is not UTF-8, or no Python.
    """
    found: dict[str, tuple[SuiteTest, ...]] = {}
    for path in sorted(_find_files(folder)):
        text = path.read_text("utf-8")
        if _DECORATOR not in text:
            continue
        name = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
        try:
            for behaviour, source in find_tests(text, name):
                found[behaviour] = (*found.get(behaviour, ()), source)
        except SyntaxError as error:
            raise ValueError(f"{path}:{error.lineno}: no Python: {error.msg}") from error
    return found


def _find_files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        # What is not the suite's: hidden folders, environments, what was built.
        folders[:] = [
            name for name in folders
            if not name.startswith((".", "__")) and name not in _FOREIGN
            and not os.path.exists(os.path.join(place, name, "pyvenv.cfg"))
        ]  # fmt: skip
        yield from (Path(place, name) for name in names if name.startswith("test_") and name.endswith(".py"))


def find_tests(text: str, path: str) -> Iterator[tuple[str, SuiteTest]]:
    """The tests in a file's text, each with the id of its statement. Pure.

    Raises:
        SyntaxError: it is no Python.
    """
    lines = text.splitlines()
    for node in ast.parse(text).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        for function in inner:
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for behaviour in _behaviours(function):
                first = min(decorator.lineno for decorator in function.decorator_list)
                source = "\n".join(lines[first - 1 : function.end_lineno])
                yield behaviour, SuiteTest(path, first, function.name, source)


def _behaviours(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name | ast.Attribute):
            called = decorator.func.id if isinstance(decorator.func, ast.Name) else decorator.func.attr
            first = decorator.args[0] if decorator.args else None
            if called == "behaviour" and isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value
