"""Docstrings: every public name has one, and what stands behind >>> in them is true."""

from __future__ import annotations

import doctest
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import kernelproof

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("impl", "vm", "conformance", "kernelproof/cli")
PACKAGES = sorted(
    path.parent.name for path in (ROOT / "impl").glob("[a-z]*/__init__.py") if path.parent.name != "tests"
)
WITH_EXAMPLES = [
    path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "tests" not in path.parts and ">>> " in path.read_text("utf-8")
]


def module_of(path: Path) -> ModuleType:
    """The module of a file, by the name that it has when it is installed."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removeprefix("kernelproof.")
    return importlib.import_module(f"kernelproof.{name}")


def public(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Names that a package offers, those that it looks up late among them."""
    names = getattr(module, "__all__", None) or [name for name in dir(module) if not name.startswith("_")]
    return ((name, getattr(module, name)) for name in names)


def lacks_words(it: object) -> bool:
    """Whether a function or class has no docstring of its own; what Python writes itself is none."""
    text = it.__doc__ if not inspect.isclass(it) else vars(it).get("__doc__")
    return not text or (inspect.isclass(it) and text.startswith(f"{it.__name__}("))


def methods(it: type) -> Iterator[tuple[str, object]]:
    """Public methods and properties that a class has itself, without properties that its own docstring explains."""
    for name, value in vars(it).items():
        if isinstance(value, property) and f"    {name}: " in (it.__doc__ or ""):
            continue
        function = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
        if not name.startswith("_") and inspect.isfunction(function):
            yield name, function


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_are_true(path: Path) -> None:
    """What a docstring shows at a prompt comes out so."""
    outcome = doctest.testmod(module_of(path))
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize("name", [*(f"impl.{package}" for package in PACKAGES), ""], ids=[*PACKAGES, "kernelproof"])
def test_public_names_are_explained(name: str) -> None:
    """Every function and class that a package offers has a docstring, and every public method of such a class."""
    module = importlib.import_module(f"kernelproof.{name}") if name else kernelproof
    silent = []
    for word, it in public(module):
        if (inspect.isclass(it) or inspect.isroutine(it)) and lacks_words(it):
            silent.append(word)
        if inspect.isclass(it):
            silent += [f"{word}.{method}" for method, function in methods(it) if lacks_words(function)]
    assert silent == []
