"""The bytecode of all modules that a subcommand of nsinit loads, in one file beside Python's own caches of it.

A call loads more than a hundred small modules. To look for each, and to open, check and read its own cache, costs more
than to run it; and so do the steps of an import. So what a call had to load the usual way is added to one file when the
call is done. The next one loads the file as a whole and runs the modules in the order in which they were complete, so
that each finds in `sys.modules` whatever it imports. As with Python's caches a source of another time or size makes the
file void, another version of Python does, and where the file can't be written all goes on without it.

    what it is for; names, origins and times of all modules; lengths of the parts (marshal, its length before it)
    the code of modules that are loaded when they are imported, as all of it without docstrings
    the code of modules that are run at once, some to a part

Of the first kind are those that few calls need, and extension modules. Of `os` a call begins with what is built into
the interpreter (`put_os`). Loaded under its bare name by `nsinit-python`, from the directory that this file is in. It
imports only what is built in too. This is not for anything but a command that lives for milliseconds.

Source: importlib, "Cached bytecode invalidation"; PEP 451; PEP 562.
"""

import _imp
import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType
    from typing import Any

_bootstrap = sys.modules["_frozen_importlib"]
_external = sys.modules["_frozen_importlib_external"]

# Of a module: name, origin, whether it is a package, time and size of its source.
Entry = tuple[str, str, bool, int, int]

# Those whose time counts have a file of their own; all others share one.
COMMANDS = ("create", "run", "exec", "state", "start", "kill", "delete")

# What makes a container needs these only when the container's process is at work: they are loaded then, though most
# calls need them, as that is on another processor mostly.
MAKING = ("create", "run")
LATE = (
    "kernelproof.impl._syscalls.bpf",
    "kernelproof.impl.cgroups.conversions",
    "kernelproof.impl.cgroups.devices",
    "kernelproof.impl.cgroups.limits",
    "kernelproof.impl.libcontainer.conditions",
    "kernelproof.impl.libcontainer.emptied",
    "kernelproof.impl.libcontainer.ending",
    "kernelproof.impl.libcontainer.frozen",
    "kernelproof.impl.libcontainer.limiting",
)

_KIND = (sys.version, sys.prefix, sys.base_prefix)
_PYC_HEAD = 16
_MOST_BYTES = 1 << 26
_LENGTH_BYTES = 8
_PART_BYTES = 1 << 16  # of code that is read at once, as far as modules let that be
_WHOLE_INT = 0xFFFFFFFF
_FLAGS = posix.O_RDONLY | posix.O_CLOEXEC
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_FEW = 10  # so many modules that a call loaded besides are no sign that most calls need them


class Packed:
    """Loads what is in the file; what it lacks, the finders behind it look for.

    Args:
        path: of the file, in a directory of caches; it stands in the file too, as that is of no use elsewhere.
        is_for_one: whether it is of one subcommand. Of several, no module is run before it is imported.
        late: modules, by how their names begin, that are not run before they are imported either.
    """

    def __init__(self, path: str, *, is_for_one: bool = True, late: tuple[str, ...] = ()) -> None:
        self._path = path
        self._late = late
        self._is_for_one = is_for_one
        self._at_once: list[str] = []  # in their order
        self._index: dict[str, Entry] = {}
        self._codes: dict[str, bytes | CodeType | None] = {}  # of those that were not run; None: an extension module
        self._misses: list[str] = []
        self._order: list[str] = []  # what was loaded besides, as it was complete

    def run(self) -> None:
        """Runs the modules that most calls need; this object is among the finders by now."""
        for entries, codes in _read_file(self._path):
            self._index.update({entry[0]: entry for entry in entries})
            names = [entry[0] for entry in entries[: len(codes)]]
            self._codes.update(zip(names, codes, strict=True))
            for name, code in zip(names, codes, strict=True):
                if not isinstance(code, bytes | None):
                    self._at_once.append(name)
                    if name not in sys.modules:
                        self._run(name, self._index[name], code)
            codes.clear()  # so that the next ones take their memory

    def _run(self, name: str, entry: Entry, code: "CodeType") -> None:
        module = type(sys)(name)
        values = module.__dict__
        spec = values["__spec__"] = self._spec(entry)
        parent, _, last = name.rpartition(".")
        values["__file__"], values["__loader__"], values["__package__"] = entry[1], self, parent
        if entry[2]:
            values["__package__"], values["__path__"] = name, spec.submodule_search_locations
        sys.modules[name] = module
        try:
            exec(code, values)
        except (ImportError, AttributeError):  # a circle, in which the usual order counts
            del sys.modules[name]
        else:
            del self._codes[name]
            if parent:
                setattr(sys.modules[parent], last, module)

    def _spec(self, entry: Entry) -> "ModuleSpec":
        spec: ModuleSpec = _bootstrap.ModuleSpec(entry[0], self, origin=entry[1], is_package=entry[2])
        if entry[2]:
            assert spec.submodule_search_locations is not None
            spec.submodule_search_locations.append(entry[1].rpartition("/")[0])
        return spec

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        """As importlib has it."""
        entry = self._index.get(name)
        if entry is None or not _is_current(entry):
            self._misses.append(name)
        elif name in self._codes:
            if self._codes[name] is None:
                loader = _external.ExtensionFileLoader(name, entry[1])
                found: ModuleSpec = _bootstrap.ModuleSpec(name, loader, origin=entry[1])
                return found
            return self._spec(entry)
        usual: ModuleSpec | None = _external.PathFinder.find_spec(name, path, target)
        if usual is not None and type(usual.loader) is _external.SourceFileLoader:
            usual.loader = Noting(self._order, name, usual.origin)
        return usual

    def create_module(self, spec: "ModuleSpec") -> None:
        """As importlib has it: the usual one."""

    def exec_module(self, module: "ModuleType") -> None:
        """As importlib has it."""
        values = module.__dict__
        name = values["__name__"]
        values["__file__"], code = self._index[name][1], self._codes[name]
        assert code is not None
        exec(marshal.loads(code) if isinstance(code, bytes) else code, values)
        _note(self._order, name)

    def keep(self) -> None:
        """Writes the file anew if this process had to load anything that is not in it."""
        if sys.dont_write_bytecode or not any(name in sys.modules for name in self._misses):
            return
        order = (*self._order,)  # what is loaded from here on is needed for this alone
        found = {name: one for name in (*self._misses,) if (one := _read_module(name)) is not None}
        if not found:
            return
        known: dict[str, tuple[Entry, bytes | None]] = {}
        for entries, codes in _read_file(self._path):
            for entry, code in zip(entries, codes, strict=False):  # of all, with no codes, first
                known[entry[0]] = entry, code if isinstance(code, bytes | None) else marshal.dumps(code)
        known.update(found)
        names = [name for name in self._at_once if name in known]
        if self._is_for_one and (len(found) > _FEW or not names):
            complete = [name for name in order if name in known and name not in names]
            names += [name for name in complete if not name.startswith(self._late)]
        _write_file(self._path, known, names)


class Noting(_external.SourceFileLoader):  # type: ignore[misc, name-defined]
    """The usual loader, which notes when a module is complete."""

    def __init__(self, order: list[str], name: str, path: str | None) -> None:
        super().__init__(name, path)
        self._order = order

    def exec_module(self, module: "ModuleType") -> None:
        """As importlib has it."""
        super().exec_module(module)
        _note(self._order, module.__name__)


def _note(order: list[str], name: str) -> None:
    # What a package itself imports of its own must be imported by it: the two are a circle.
    parent = sys.modules.get(name.rpartition(".")[0])
    if not getattr(getattr(parent, "__spec__", None), "_initializing", False):
        order.append(name)


def _read_file(path: str) -> "Iterator[tuple[tuple[Entry, ...], list[CodeType | bytes | None]]]":
    # All that is in the file, without codes; then its parts, one at a time, into the same memory: each page that a
    # process has for the first time costs it a microsecond. Nothing if the file is not to be used.
    buffer = bytearray(_PART_BYTES)
    try:
        fd = posix.open(path, _FLAGS)
    except OSError:
        return
    try:
        most = posix.fstat(fd).st_size
        kind, at_once, parts = _load(fd, buffer, int.from_bytes(posix.read(fd, _LENGTH_BYTES), "little"), most)
        if kind != (*_KIND, path) or not all(
            [_is_current(entry) for entries, _ in parts[:at_once] for entry in entries]
        ):
            return
        for entries, length in parts:
            yield entries, _load(fd, buffer, length, most)
    except (OSError, EOFError, ValueError, TypeError):
        return
    finally:
        posix.close(fd)


def _load(fd: int, buffer: bytearray, length: int, most: int) -> "Any":
    if length > most:
        raise EOFError
    if length > len(buffer):
        buffer.extend(bytes(length - len(buffer)))
    with memoryview(buffer) as whole, whole[:length] as part:
        if posix.readv(fd, (part,)) != length:
            raise EOFError
        return marshal.loads(part)


def _write_file(path: str, known: "dict[str, tuple[Entry, bytes | None]]", names: list[str]) -> None:
    later = sorted({*known} - {*names})
    parts = [(tuple([known[one][0] for one in later]), marshal.dumps([known[one][1] for one in later]))]
    part: list[str] = []
    for name in names:
        part.append(name)
        if name == names[-1] or sum([len(known[one][1] or b"") for one in part]) > _PART_BYTES * 3 // 4:
            codes = [marshal.loads(known[one][1] or b"") for one in part]
            parts.append((tuple([known[one][0] for one in part]), marshal.dumps(codes)))
            part = []
    head = marshal.dumps(((*_KIND, path), len(parts) - 1, [(entries, len(data)) for entries, data in parts]))
    _write(path, b"".join([len(head).to_bytes(_LENGTH_BYTES, "little"), head, *[data for _, data in parts]]))


def _is_current(entry: Entry) -> bool:
    try:
        found = posix.stat(entry[1])
    except OSError:
        return False
    return int(found.st_mtime) & _WHOLE_INT == entry[3] and found.st_size & _WHOLE_INT == entry[4]


def _read_module(name: str) -> "tuple[Entry, bytes | None] | None":
    # What a module that was loaded the usual way is in the file; None for what has no cache that goes by time.
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if spec is None or spec.origin is None:
        return None
    try:
        if type(spec.loader) is _external.ExtensionFileLoader:
            found = posix.stat(spec.origin)
            return (name, spec.origin, False, int(found.st_mtime) & _WHOLE_INT, found.st_size & _WHOLE_INT), None
        if type(spec.loader) is not Noting:
            return None
        data = _read(spec.cached)
        found = posix.stat(spec.origin)
    except OSError:
        return None
    time, size = int(found.st_mtime) & _WHOLE_INT, found.st_size & _WHOLE_INT
    goes_by_hash = data[4] & 1  # it was found current when this process loaded it
    if data[:4] != _external.MAGIC_NUMBER or not (goes_by_hash or _stamp(data) == (time, size)):
        return None
    code: bytes = _load_beside("lean").strip_docstrings(data[_PYC_HEAD:])
    return (name, spec.origin, spec.submodule_search_locations is not None, time, size), code


def _load_beside(name: str) -> "Any":
    # A module of this directory, by whatever name and path this one was loaded: few calls need it.
    found = sys.modules.get(f"{__name__}.{name}")
    if found is None:
        found = sys.modules[f"{__name__}.{name}"] = type(sys)(name)
        _external.SourceFileLoader(name, f"{__file__.rpartition('/')[0]}/{name}.py").exec_module(found)
    return found


def _stamp(data: bytes) -> tuple[int, int]:
    return int.from_bytes(data[8:12], "little"), int.from_bytes(data[12:16], "little")


def _read(path: str) -> bytes:
    fd = posix.open(path, _FLAGS)
    try:
        return posix.read(fd, min(posix.fstat(fd).st_size, _MOST_BYTES))
    finally:
        posix.close(fd)


def _write(path: str, data: bytes) -> None:
    other = f"{path}.{posix.getpid()}"
    try:
        fd = posix.open(other, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o644)
    except OSError:
        return
    try:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[posix.write(fd, rest) :]
        finally:
            posix.close(fd)
        posix.replace(other, path)
    except OSError:
        posix.unlink(other)


def install(directory: str, command: str = "") -> Packed:
    """Loads modules from the file of a directory's caches, and lets more be found there first, behind what is built in.

    Args:
        directory: with a directory `__pycache__`.
        command: the subcommand that this call is of.
    """
    is_for_one = command in COMMANDS
    if is_for_one:
        put_os()
    kind = f"{sys.implementation.cache_tag}.{command}" if is_for_one else sys.implementation.cache_tag
    packed = Packed(
        f"{directory}/__pycache__/modules.{kind}.pack", is_for_one=is_for_one, late=LATE if command in MAKING else ()
    )
    sys.meta_path.insert(2, packed)
    packed.run()
    return packed


class LeanOs:
    """The module `os` with what is built into the interpreter; the rest of it comes when it is asked for.

    To load os takes a sixth of an interpreter's start, for 25 abstract classes and a dictionary of the environment, and
    a call that makes a container uses nothing of that but paths. Whatever else is looked up is looked for in os itself,
    which is run in this very module then: afterwards nothing tells them apart.

    Args:
        spec: of os.
    """

    def __init__(self, spec: "ModuleSpec") -> None:
        self._spec = spec
        self.module = _bootstrap.module_from_spec(spec)
        self._values = self.module.__dict__
        self._values.update({name: value for name, value in posix.__dict__.items() if name[0] != "_"})
        del self._values["environ"]  # of bytes; that of os is another
        self._values.update(_exit=posix._exit, __getattr__=self._complete, getenv=self._getenv)
        self._values.update(fsencode=_fsencode, fsdecode=_fsdecode)

    def _getenv(self, key: str, default: "str | None" = None) -> "str | None":
        if "environ" in self._values:  # somebody kept this function
            found: str | None = self._values["environ"].get(key, default)
            return found
        value = posix.environ.get(_fsencode(key))
        return default if value is None else _fsdecode(value)

    def _complete(self, name: str) -> object:
        if name == "path":
            self._values[name] = __import__("posixpath")
        elif name[:2] == "__" and name != "__all__":  # an import asks whether this is a package
            raise AttributeError(f"module 'os' has no attribute {name!r}")
        else:
            _imp.acquire_lock()  # two threads may ask at once
            try:
                if "environ" not in self._values:
                    self._spec.loader.exec_module(self.module)  # type: ignore[union-attr]
                self._values.pop("__getattr__", None)
            finally:
                _imp.release_lock()
        return getattr(self.module, name)


def _fsencode(filename: str | bytes) -> bytes:
    name = posix.fspath(filename)
    return name.encode(_ENCODING, _ERRORS) if isinstance(name, str) else name


def _fsdecode(filename: str | bytes) -> str:
    name = posix.fspath(filename)
    return name if isinstance(name, str) else name.decode(_ENCODING, _ERRORS)


def put_os() -> None:
    """Puts LeanOs in its place, unless os is loaded already or this interpreter has it in a file."""
    spec = None if "os" in sys.modules else _bootstrap.FrozenImporter.find_spec("os")
    if spec is None:
        return
    module = sys.modules["os"] = LeanOs(spec).module
    paths = sys.modules["os.path"] = type(sys)("os.path")  # what `import os.path` finds
    paths.__dict__["__getattr__"] = lambda name: getattr(module.path, name)
