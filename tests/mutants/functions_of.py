"""Every function that a module defines, wherever it hides: in classes, properties, caches, fixtures, decorators.

The garbage collector is no help in finding them: what was frozen for a snapshot it does not list.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Iterator

_INNER = ("__wrapped__", "__func__", "fget", "fset", "fdel", "func", "_fixture_function", "_get_wrapped_function")


def functions_of(module: types.ModuleType) -> Iterator[types.FunctionType]:
    """The functions and methods that were defined in a module's own file, each once.

    A function that lives only inside another one is not among them: its code is a part of the outer one's.
    """
    seen: set[int] = set()
    for value in list(vars(module).values()):
        for function in _unwrap(value, module.__name__, seen):
            if function.__module__ == module.__name__ and not _is_of_stdlib(function):
                yield function


def _is_of_stdlib(function: types.FunctionType) -> bool:
    # contextlib's and functools' wrappers bear the names of what they wrap.
    return str(function.__globals__.get("__name__")).partition(".")[0] in sys.stdlib_module_names


def _unwrap(value: object, home: str, seen: set[int]) -> Iterator[types.FunctionType]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, types.FunctionType):
        yield value
    if isinstance(value, type):
        if value.__module__ == home:
            for inner in list(vars(value).values()):
                yield from _unwrap(inner, home, seen)
        return
    for name in _INNER:
        inner = _attribute(value, name)
        if isinstance(inner, types.FunctionType | property | functools.partial | classmethod | staticmethod):
            yield from _unwrap(inner, home, seen)


def _attribute(value: object, name: str) -> object:
    # Not getattr: a module may hold objects that make up an answer for any name.
    found = getattr(type(value), name, None)
    if isinstance(found, types.MemberDescriptorType | types.GetSetDescriptorType):
        return found.__get__(value)
    own = getattr(value, "__dict__", None)
    return own.get(name) if isinstance(own, dict) else None
