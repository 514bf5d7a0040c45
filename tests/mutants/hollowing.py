"""Functions of `impl` that do nothing when a test calls them, and all they ever did when `impl` itself does.

Each function keeps its name, its place and its identity; its code object alone is exchanged, so that names that were
imported elsewhere, methods of objects that exist already, and children that are forked see the same.

What is not emptied: what the standard library generates (a NamedTuple's constructor), and the few names by which Python
itself makes modules and classes.
"""

from __future__ import annotations

import inspect
import sys
import types
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pkgutil import walk_packages
from typing import Any

IMPL = "kernelproof.impl."

_KEPT = frozenset(
    {"__getattr__", "__dir__", "__init_subclass__", "__set_name__", "__class_getitem__", "__del__", "__repr__"}
)
_VALUES = IMPL + "_syscalls.numbered"  # classes of numbers, in the place of the standard library's
_HOLLOW_DEPTH = 2  # frames between the caller's and the one that asks


class Hollow:
    """Exchanges code, and says which functions a test called meanwhile.

    Args:
        root: The project's root: a caller whose file lies below it, and which is not of `impl`, is a test.
    """

    def __init__(self, root: str) -> None:
        self.active = False
        self.called: dict[str, int] = {}
        self._root = root.rstrip("/") + "/"
        self._done: set[int] = set()
        self._seen: set[str] = set()  # a clone that looked at everything again would copy every page of it

    def prepare(self, functions: Callable[[types.ModuleType], Iterator[types.FunctionType]]) -> None:
        """Exchange the code of all functions of modules of `impl` that were loaded since it was done last."""
        for name in sorted(sys.modules.keys() - self._seen):
            if name.startswith(IMPL) and name != _VALUES:
                for function in functions(sys.modules[name]):
                    self._exchange(function)
        self._seen.update(sys.modules)

    def _exchange(self, function: types.FunctionType) -> None:
        if function.__name__ in _KEPT or id(function) in self._done:
            return
        self._done.add(id(function))
        original = types.FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
        )
        original.__kwdefaults__ = function.__kwdefaults__
        name = f"{function.__module__.removeprefix(IMPL)}:{function.__qualname__}"
        shim = shim_code(function.__code__, self._dispatcher(original, name))
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            function.__code__ = shim  # a plain one for a generator's too: it returns a generator

    def _dispatcher(self, original: types.FunctionType, name: str) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
        nothing = nothing_like(original)

        def dispatch(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
            if not self.active or not self.is_tests_call():
                return original(*arguments, **keywords)
            self.called[name] = self.called.get(name, 0) + 1
            return nothing(arguments)

        return dispatch

    def is_tests_call(self) -> bool:
        """Whether the nearest frame of the project above the function's own is a test's and not one of `impl`."""
        frame: types.FrameType | None = sys._getframe(_HOLLOW_DEPTH + 1)
        while frame is not None:
            if str(frame.f_globals.get("__name__", "")).startswith(IMPL):
                return False
            if frame.f_code.co_filename.startswith(self._root) and frame.f_code.co_filename != __file__:
                return True
            frame = frame.f_back
        return False


def load_all() -> None:
    """Load every module of those packages of `impl` that are loaded: some come only with the first call."""
    packages = {name.split(".")[2] for name in sys.modules if name.startswith(IMPL)} - {"tests"}
    for package in sorted(packages):
        top = sys.modules[IMPL + package]
        for module in walk_packages(top.__path__, f"{top.__name__}.", onerror=lambda _: None):
            if not module.name.endswith("__main__"):
                with suppress(ImportError):  # it has use for a library that is not here
                    import_module(module.name)


def shim_code(code: types.CodeType, dispatch: Callable[[tuple[Any, ...], dict[str, Any]], Any]) -> types.CodeType:
    """Code that hands all its arguments to `dispatch`, and fits into a function that had `code`."""

    def shim(*arguments: Any, **keywords: Any) -> Any:
        target: Any = "dispatch"
        return target(arguments, keywords)

    template = shim.__code__
    constants = tuple(dispatch if value == "dispatch" else value for value in template.co_consts)
    return template.replace(
        co_consts=constants,
        co_name=code.co_name,
        co_qualname=code.co_qualname,
        co_filename=code.co_filename,
        co_firstlineno=code.co_firstlineno,
        co_freevars=code.co_freevars,  # unused, but a function's closure must fit its code
    )


def nothing_like(function: types.FunctionType) -> Callable[[tuple[Any, ...]], Any]:
    """What stands for a function that does nothing: None, and its like for generators, coroutines and `__enter__`.

    The body of a context manager yields once, as else nothing inside the `with` would run; entering gives the object.
    """
    if inspect.isasyncgenfunction(function):
        return lambda _: _no_async_values()
    if inspect.iscoroutinefunction(function):
        return lambda _: _no_answer()
    if inspect.isgeneratorfunction(function):
        return lambda _: _one_none() if _is_for_with() else iter(())
    if function.__name__ == "__enter__":
        return lambda arguments: arguments[0]
    return lambda _: None


def _is_for_with() -> bool:
    # lambda, dispatch, shim, and then contextlib's helper if the function is a context manager's body.
    caller = sys._getframe(4)
    return caller.f_globals.get("__name__") == "contextlib"


def _one_none() -> Iterator[None]:
    yield None


async def _no_async_values() -> AsyncIterator[None]:
    return
    yield


async def _no_answer() -> None:
    return None
