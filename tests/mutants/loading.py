"""Loads one module of `impl` with an edit in it, in a Python that has not loaded it yet."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader

VARIABLE = "KERNELPROOF_MUTANT"


class _Loader(SourceFileLoader):
    """Compiles the edited text, and neither reads nor writes bytecode.

    Args:
        fullname: The module's name.
        path: Its file.
        edit: The fields of an `Edit`.
    """

    def __init__(self, fullname: str, path: str, edit: dict[str, object]) -> None:
        super().__init__(fullname, path)
        self._edit = edit

    def get_code(self, fullname: str) -> types.CodeType:
        text = self.get_data(self.path).decode()
        start, old = int(str(self._edit["start"])), str(self._edit["old"])
        if text[start : start + len(old)] == old:
            text = text[:start] + str(self._edit["new"]) + text[start + len(old) :]
        return compile(text, self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    def __init__(self, edit: dict[str, object]) -> None:
        self._edit = edit
        path = str(edit["path"]).removesuffix(".py").removesuffix("/__init__")
        self._name = f"kernelproof.{path.replace('/', '.')}"

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin, self._edit)
        return spec


def install(text: str) -> None:
    """Look at what is imported from here on.

    Args:
        text: The fields of an `Edit`, as JSON.
    """
    sys.meta_path.insert(0, _Finder(json.loads(text)))
