"""The bytecode of all modules that a call of nsinit loads, in one file beside Python's own caches of it.

A call loads more than a hundred small modules. To look for each, and to open, check and read its own cache, costs more
than to run it: measured, 0.4 of an interpreter's start for `state`, twice one for `run`. So what a call had to load the
usual way it adds to one file when it is done, and the next call finds it there. As with Python's caches a source of
another time or size makes its entry void, another version of Python the whole file, and where the file can't be written
all goes on without it.

    SIZE INDEX CODE...     SIZE: eight bytes; INDEX: of marshal, see `Entry`; CODE: of marshal, one module each

Loaded under its bare name by `nsinit-python`, from the directory that this file is in. It imports only what is built
into the interpreter. This is not for anything but a command that lives for milliseconds.

Source: importlib, "Cached bytecode invalidation"; PEP 451.
"""

from __future__ import annotations

import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_bootstrap = sys.modules["_frozen_importlib"]
_external = sys.modules["_frozen_importlib_external"]

# Of a module: origin, whether it is a package, time and size of its source, place and size of its code. Size of code 0:
# an extension module.
Entry = tuple[str, bool, int, int, int, int]
Module = tuple[str, bool, int, int, bytes]  # the same with its code

_KIND = (sys.version, sys.prefix, sys.base_prefix)
_HEAD = 8
_PYC_HEAD = 16
_MOST_INDEX = 1 << 24
_WHOLE_INT = 0xFFFFFFFF
_FLAGS = posix.O_RDONLY | posix.O_CLOEXEC


class Packed:
    """Finds and loads what is in the file; what it lacks, the finders behind it look for.

    Args:
        path: of the file, in a directory of caches; it stands in the file too, as that is of no use elsewhere.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._start = 0
        self._index: dict[str, Entry] = {}
        self._misses: list[str] = []
        try:
            self._fd = posix.open(path, _FLAGS)
            size = int.from_bytes(posix.read(self._fd, _HEAD), "little")
            if size > _MOST_INDEX:
                return
            self._start = _HEAD + size
            kind, index = marshal.loads(posix.read(self._fd, size))
        except (OSError, EOFError, ValueError, TypeError):
            return
        if kind == (*_KIND, path):
            self._index = index

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """As importlib has it."""
        entry = self._index.get(name)
        if entry is None or not _is_current(entry):
            self._misses.append(name)
            return None
        if not entry[5]:
            loader = _external.ExtensionFileLoader(name, entry[0])
            found: ModuleSpec = _bootstrap.ModuleSpec(name, loader, origin=entry[0])
            return found
        spec: ModuleSpec = _bootstrap.ModuleSpec(name, self, origin=entry[0], is_package=entry[1])
        if entry[1]:
            assert spec.submodule_search_locations is not None
            spec.submodule_search_locations.append(entry[0].rpartition("/")[0])
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """As importlib has it: the usual one."""

    def exec_module(self, module: ModuleType) -> None:
        """As importlib has it."""
        values = module.__dict__
        entry = self._index[values["__name__"]]
        values["__file__"] = entry[0]
        exec(marshal.loads(self._read(entry)), values)

    def _read(self, entry: Entry) -> bytes:
        return posix.pread(self._fd, entry[5], self._start + entry[4])

    def _entry(self, name: str) -> Module:
        entry = self._index[name]
        return (*entry[:4], self._read(entry))

    def keep(self) -> None:
        """Writes the file anew if this process had to load anything that is not in it."""
        if sys.dont_write_bytecode or not any(name in sys.modules for name in self._misses):
            return
        found = {name: one for name in self._misses if (one := _read_module(name)) is not None}
        if not found:
            return
        index: dict[str, Entry] = {}
        codes: list[bytes] = []
        place = 0
        for name in sorted({*self._index, *found}):
            origin, is_package, time, size, code = found[name] if name in found else self._entry(name)
            index[name] = (origin, is_package, time, size, place, len(code))
            codes.append(code)
            place += len(code)
        packed = marshal.dumps(((*_KIND, self._path), index))
        _write(self._path, [len(packed).to_bytes(_HEAD, "little"), packed, *codes])


def _is_current(entry: Entry) -> bool:
    try:
        found = posix.stat(entry[0])
    except OSError:
        return False
    return int(found.st_mtime) & _WHOLE_INT == entry[2] and found.st_size & _WHOLE_INT == entry[3]


def _read_module(name: str) -> Module | None:
    # What a module that was loaded the usual way is in the file; None for what has no cache that goes by time.
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if spec is None or spec.origin is None:
        return None
    try:
        if type(spec.loader) is _external.ExtensionFileLoader:
            found = posix.stat(spec.origin)
            return (spec.origin, False, int(found.st_mtime) & _WHOLE_INT, found.st_size & _WHOLE_INT, b"")
        if type(spec.loader) is not _external.SourceFileLoader:
            return None
        fd = posix.open(spec.cached, _FLAGS)
        try:
            data = posix.read(fd, posix.fstat(fd).st_size)
        finally:
            posix.close(fd)
        found = posix.stat(spec.origin)
    except OSError:
        return None
    time, size = int(found.st_mtime) & _WHOLE_INT, found.st_size & _WHOLE_INT
    goes_by_hash = data[4] & 1  # it was found current when this process loaded it
    if data[:4] != _external.MAGIC_NUMBER or not (goes_by_hash or _stamp(data) == (time, size)):
        return None
    return (spec.origin, spec.submodule_search_locations is not None, time, size, data[_PYC_HEAD:])


def _stamp(data: bytes) -> tuple[int, int]:
    return int.from_bytes(data[8:12], "little"), int.from_bytes(data[12:16], "little")


def _write(path: str, parts: list[bytes]) -> None:
    other = f"{path}.{posix.getpid()}"
    try:
        fd = posix.open(other, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o644)
    except OSError:
        return
    try:
        try:
            data = memoryview(b"".join(parts))
            while data:
                data = data[posix.write(fd, data) :]
        finally:
            posix.close(fd)
        posix.replace(other, path)
    except OSError:
        posix.unlink(other)


def install(directory: str) -> Packed:
    """Lets modules be found in the file of a directory's caches first, behind what is built in."""
    packed = Packed(f"{directory}/__pycache__/modules.{sys.implementation.cache_tag}.pack")
    sys.meta_path.insert(2, packed)
    return packed
