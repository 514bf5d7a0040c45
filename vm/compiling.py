"""Makes the bytecode of test files before a guest needs it: with the guest's Python and the host's pytest, on the host.

A guest under TCG takes half a second for a test file, most of it pytest's rewriting of assertions; the same interpreter
run here takes a fiftieth. Nothing of the project is run by that, only compiled. Where that interpreter is not here, or
fails, the guest compiles as ever.

Files that are rewritten in any case are made: those that hold tests and the conftests on the way to them. What else a
guest imports nobody knows before.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from kernelproof.vm.bytecode import Bytecode
from kernelproof.vm.cache import Cache
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.provision_tools import Tools
from kernelproof.vm.provision_unpack import WORKERS

FEW = 8  # to start an interpreter with pytest in it costs as much as a guest takes for one

_IMPORTED = ("_pytest", "pluggy", "iniconfig", "packaging", "pygments")  # what pytest's rewriting imports
_SCRIPT = """
import io, json, sys
from base64 import b64encode
from pathlib import Path

given = json.load(sys.stdin)
sys.path += given["path"]
from _pytest.assertion import rewrite

made = []
for name in given["files"]:
    path, data = Path(name), io.BytesIO()
    try:
        source, code = rewrite._rewrite_test(path, None)
    except (OSError, SyntaxError, ValueError, RecursionError):
        continue  # whoever imports it is told
    rewrite._write_pyc_fp(data, source, code)
    made.append((name, path.stem + rewrite.PYC_TAIL, b64encode(data.getvalue()).decode("ascii")))
json.dump(made, sys.stdout)
"""


def compile_ahead(config: pytest.Config, bytecode: Bytecode, files: Sequence[Path], tools: Tools | None) -> None:
    """Let `bytecode` know what it lacks of files that pytest rewrites.

    Args:
        config: The host's: a project that has assertions left alone, or a hook for each, is left to the guest.
        bytecode: Of the project.
        files: Test files and conftests.
        tools: With the guest's Python, if there are any.
    """
    odd = config.getoption("assertmode", "rewrite") != "rewrite" or config.getini("enable_assertion_pass_hook")
    if tools is None or odd:
        return
    lacking = bytecode.lacking(files)
    if len(lacking) >= FEW:
        bytecode.keep(_compile(tools, lacking))


def find_tools(cache: Cache, guest: object) -> Tools | None:
    """Programs in the cache whose Python is the guest's, if there are any."""
    python = guest.get("python") if isinstance(guest, Mapping) else None
    for folder in sorted(cache.folder("tools").iterdir()):
        tools = Tools(folder, folder.name)
        try:
            if len(folder.name) == 64 and tools.python == python:
                return tools
        except OSError:
            continue  # it is being made or dropped
    return None


def _compile(tools: Tools, sources: Sequence[Path]) -> dict[Path, list[tuple[str, bytes]]]:
    parts = [sources[start::WORKERS] for start in range(WORKERS)]
    with ThreadPoolExecutor(WORKERS) as pool:
        found = [made for part in pool.map(partial(_compile_part, tools), parts) for made in part]
    return {path: [(name, data)] for path, name, data in found}


def _compile_part(tools: Tools, sources: Sequence[Path]) -> Iterator[tuple[Path, str, bytes]]:
    given = {"path": _places(), "files": [str(path) for path in sources]}
    try:
        data = json.dumps(given).encode()
        told = tools.run("python3", ["-S", "-c", _SCRIPT], data=data, step="compile", subject="test files")
    except ProvisionError:  # another pytest than is known, for one: the guest will do it
        return iter(())
    return iter([(Path(path), name, b64decode(text)) for path, name, text in json.loads(told)])


def _places() -> list[str]:
    found = [find_spec(name) for name in _IMPORTED]
    places = [Path(spec.origin) for spec in found if spec is not None and spec.origin is not None]
    return list(
        dict.fromkeys(str(place.parent.parent if place.name == "__init__.py" else place.parent) for place in places)
    )
