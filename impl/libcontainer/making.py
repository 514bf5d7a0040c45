"""What a Runtime makes processes by: helpers that are asked, and containers that are ready already."""

from __future__ import annotations

import os
import threading

from kernelproof.impl.libcontainer.children import Running, Streams
from kernelproof.impl.libcontainer.config.records import Config
from kernelproof.impl.libcontainer.config.writing import dump
from kernelproof.impl.libcontainer.process.helper import Helpers
from kernelproof.impl.libcontainer.ready import Pool, find_reason

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.ready import Wanted


class Maker:
    """Makes containers, and processes in them; safe for threads.

    Args:
        root: directory of all states.
        helpers: kept warm.
    """

    __slots__ = ("_helpers", "_lock", "_pools", "_root", "_written")

    def __init__(self, root: str, helpers: Helpers) -> None:
        self._root = root
        self._helpers = helpers
        self._lock = threading.Lock()
        self._pools: tuple[Pool, ...] = ()
        self._written: tuple[Config | None, str] = (None, "")  # the last configuration as text: it never changes

    def warm(self, count: int) -> None:
        """Spawns helpers before they are needed; errors as Helpers.warm."""
        self._helpers.warm(count)

    def ask(self, kind: str, values: dict[str, object], text: str, wanted: Wanted) -> Running:
        """Has a helper make a process; errors as Helpers.ask."""
        opened = Streams(wanted)
        file = os.memfd_create("configuration", os.MFD_CLOEXEC)
        try:
            os.write(file, text.encode())
            made = self._helpers.ask(kind, values, [file, *opened.given])
        except BaseException:
            opened.close(ours=True)
            raise
        finally:
            opened.close()
            os.close(file)
        return Running(made, opened)

    def create(self, identifier: str, config: Config, bundle: str, console_socket: str, wanted: Wanted) -> Running:
        """Takes a ready container, or has a helper make one; errors as Runtime.create."""
        for pool in () if console_socket else self._pools:
            if pool.is_for(config, bundle, wanted):
                taken = pool.take(identifier)
                if taken is not None:
                    return taken
        values: dict[str, object] = {
            "root": self._root,
            "id": identifier,
            "bundle": bundle,
            "console_socket": console_socket,
        }
        return self.ask("create", values, self._write(config), wanted)

    def _write(self, config: Config) -> str:
        written = self._written
        if written[0] is not config:
            written = self._written = (config, dump(config, None, own=True))
        return written[1]

    def prepare(self, config: Config, bundle: str, count: int, wanted: Wanted) -> None:
        """Keeps containers ready; errors as Runtime.prepare."""
        if reason := find_reason(config):
            raise ValueError(f"no container of this configuration can be kept ready: {reason}")
        if count < 0:
            raise ValueError(f"{count} containers can't be kept ready")
        with self._lock:
            pool = next((one for one in self._pools if one.is_for(config, bundle, wanted)), None)
            if pool is None:
                if not count:
                    return
                pool = Pool(self._root, self._helpers.spawn(), config, self._write(config), bundle, wanted)
                self._pools = (*self._pools, pool)
            try:
                pool.keep(count)
            finally:
                if not pool.count:
                    self._pools = tuple(one for one in self._pools if one is not pool)
                    pool.close()

    def close(self) -> None:
        """Removes what was ready and not taken, and ends the helpers."""
        with self._lock:
            pools, self._pools = self._pools, ()
        try:
            for pool in pools:
                pool.close()
        finally:
            self._helpers.close()
