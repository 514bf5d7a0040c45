"""Puts a broken function in the place of the whole one, in a process that has loaded it already.

Only code objects are exchanged: whoever imported the function, and whatever object has it as a method, gets the broken
one. A byte of memory that forked children share tells whether it ran.
"""

from __future__ import annotations

import ast
import mmap
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from functions_of import functions_of

MARK = mmap.mmap(-1, 1)
_MARKING = "__import__('applying').MARK[0] = 1"


class NotLoaded(LookupError):
    """The process has no such function: nothing that it collected imports it."""


def break_function(root: Path, task: Mapping[str, object]) -> None:
    """Exchange the code of one function.

    Args:
        root: The project's root.
        task: The fields of an `Edit`.

    Raises:
        NotLoaded: the function is not there.
        ValueError: the file is not the one that the edit was made for.
    """
    path, function = root / str(task["path"]), str(task["function"])
    text, start, old = path.read_text("utf-8"), int(str(task["start"])), str(task["old"])
    if text[start : start + len(old)] != old:
        raise ValueError(f"{path} has changed since the edit was made")
    broken = text[:start] + str(task["new"]) + text[start + len(old) :]
    _load(root, path)
    found = False
    for target in _targets(path, root, function, int(str(task["line"])), text):
        code = compile_function(broken, target.__code__)
        if code.co_freevars != target.__code__.co_freevars:
            raise NotLoaded(f"{path}: {function} has another closure when it is broken")
        target.__code__ = code
        found = True
    if not found:
        raise NotLoaded(f"{path}: {function}")
    MARK[0] = 0


def _load(root: Path, path: Path) -> None:
    # Some of impl is imported by those alone who need it; a broken function must be there before they do.
    parts = path.relative_to(root).with_suffix("").parts
    if parts[0] == "impl":
        name = ".".join(("kernelproof", *parts))
        with suppress(ImportError):
            import_module(name.removesuffix(".__init__"))


def _targets(path: Path, root: Path, name: str, line: int, text: str) -> Iterator[types.FunctionType]:
    relative = str(path.relative_to(root))
    first = max(
        (
            min([node.lineno, *(each.lineno for each in node.decorator_list)])
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and name.rpartition(".")[2] == node.name
            if node.lineno <= line
        ),
        default=0,
    )
    for module in list(sys.modules.values()):
        if str(getattr(module, "__file__", None) or "").endswith(f"/{relative}"):
            for function in functions_of(module):
                code = function.__code__
                if code.co_qualname == name and code.co_firstlineno == first:
                    yield function


def compile_function(text: str, like: types.CodeType) -> types.CodeType:
    """The code of the function in a text that has the name and the first line of a code object.

    Raises:
        SyntaxError: the text is no Python.
        LookupError: there is no such function.
    """
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == like.co_name:
            after_docstring = 1 if ast.get_docstring(node, clean=False) is not None else 0
            node.body[after_docstring:after_docstring] = ast.parse(_MARKING).body
    ast.fix_missing_locations(tree)
    # As the file itself is compiled: `from __future__` of this one is not for it.
    module = compile(tree, like.co_filename, "exec", dont_inherit=True)
    for code in _codes(module):
        if code.co_qualname == like.co_qualname and code.co_firstlineno == like.co_firstlineno:
            # What a function has of the scopes around it can't be changed; that it makes use of none of it can be.
            return code if code.co_freevars else code.replace(co_freevars=like.co_freevars)
    raise LookupError(f"{like.co_filename}: no function {like.co_qualname}")


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _codes(constant)
