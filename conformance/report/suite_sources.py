"""Finds the test of each statement in a suite's files: place and text. Nothing is imported or run."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

from kernelproof.conformance.report.statements import SuiteTest

_NAMES = ("behaviour", "behaviour_row")
_SIGN = "behaviour"
_FOREIGN = {"node_modules", "build", "dist", "site-packages"}


def read_tests(folder: Path, root: Path) -> dict[str, tuple[SuiteTest, ...]]:
    """The tests below a folder, by the id that their decorator, or a row of their table, names.

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
        if _SIGN not in text:
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
            for behaviour in dict.fromkeys(_behaviours(function)):  # once, if several rows show it
                first = min(decorator.lineno for decorator in function.decorator_list)
                source = "\n".join(lines[first - 1 : function.end_lineno])
                yield behaviour, SuiteTest(path, first, function.name, source)


def _behaviours(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    # In a decorator of its own, or in the rows of a table: as marks=behaviour("…") or as behaviour_row("…", …).
    for call in (node for decorator in function.decorator_list for node in ast.walk(decorator)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name | ast.Attribute):
            called = call.func.id if isinstance(call.func, ast.Name) else call.func.attr
            first = call.args[0] if call.args else None
            if called in _NAMES and isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value
