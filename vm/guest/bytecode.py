"""Hands the host the bytecode that this guest made of its project's files, so that the next one need not make it.

Compiling takes a guest under TCG half a second a test file, most of it pytest's rewriting of assertions. The host keeps
what comes from here by the content of the sources, never runs it, and pushes it again beside them.
"""

from __future__ import annotations

import os
import sys
from base64 import b64encode
from importlib.machinery import SourceFileLoader
from typing import Any

from _pytest.assertion import rewrite

from kernelproof.vm.guest.port import Port

CACHE_FOLDER = "__pycache__"
SENT_BYTES = 32 * 1024 * 1024  # of one session; what is more is sent by the next one, that lacks nothing else

_OF_THE_ROOT = "/usr/"  # compiled when the root was made


class Recorder:
    """Lets Python and pytest write bytecode, and notes where, until `stop`."""

    def __init__(self) -> None:
        self._written: list[str] = []
        sys.dont_write_bytecode = False
        self._set_data, self._write_pyc = SourceFileLoader.set_data, rewrite._write_pyc
        SourceFileLoader.set_data = self._note_data(self._set_data)  # type: ignore[method-assign]
        rewrite._write_pyc = self._note_pyc(self._write_pyc)

    def _note_data(self, original: Any) -> Any:
        def set_data(loader: SourceFileLoader, path: str, data: bytes, **keywords: Any) -> None:
            original(loader, path, data, **keywords)
            self._written.append(path)

        return set_data

    def _note_pyc(self, original: Any) -> Any:
        def write_pyc(state: object, code: object, status: object, pyc: os.PathLike[str]) -> bool:
            written = bool(original(state, code, status, pyc))
            if written:
                self._written.append(os.fspath(pyc))
            return written

        return write_pyc

    def stop(self) -> int:
        """Let nothing more be written: nobody would read it. Returns how much there is to `send`."""
        sys.dont_write_bytecode = True
        SourceFileLoader.set_data = self._set_data  # type: ignore[method-assign]
        rewrite._write_pyc = self._write_pyc
        self._written = [path for path in self._written if not path.startswith(_OF_THE_ROOT)]
        return len(self._written)

    def send(self, port: Port) -> None:
        """Answer `bytecode`: what was written, each with the real path of its source."""
        left = SENT_BYTES
        for path in self._written:
            cache, _, name = path.rpartition("/")
            try:
                with open(path, "rb") as file:
                    data = b64encode(file.read()).decode("ascii")
            except FileNotFoundError:
                continue  # the project's own business
            left -= len(data)
            if left < 0:
                break
            # By its real path: what is imported through a link the host knows where it lies.
            source = os.path.realpath(f"{cache.removesuffix(CACHE_FOLDER)}{name.partition('.')[0]}.py")
            port.send({"kind": "compiled", "source": source, "name": name, "data": data})
        port.send({"kind": "compiled-all"})
