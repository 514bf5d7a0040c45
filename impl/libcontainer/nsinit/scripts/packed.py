"""The bytecode of all modules that a subcommand of nsinit loads, in one file beside Python's own caches of it.

A call loads more than a hundred small modules. To look for each, and to open, check and read its own cache, costs more
than to run it; and so do the steps of an import. So what a call had to load the usual way is added to one file when the
call is done. The next one loads the file as a whole and runs the modules in the order in which they were complete, so
that each finds in `sys.modules` whatever it imports. As with Python's caches a source of another time or size makes the
file void, another version of Python does, and where the file can't be written all goes on without it.

    what it is for, modules that are run at once, modules that are loaded when they are imported (marshal)

Of the second kind are those that few calls need, and extension modules. Of `os` a call begins with what is built into
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
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

_bootstrap = sys.modules["_frozen_importlib"]
_external = sys.modules["_frozen_importlib_external"]

# Of a module: name, origin, whether it is a package, time and size of its source; its code, or that marshalled, or None
# for an extension module.
Entry = tuple[str, str, bool, int, int, "CodeType | bytes | None"]

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
        self._at_once: tuple[Entry, ...] = ()
        self._index: dict[str, Entry] = {}
        self._misses: list[str] = []
        self._order: list[str] = []  # what was loaded besides, as it was complete
        try:
            kind, at_once, later = marshal.loads(_read(path))
        except (OSError, EOFError, ValueError, TypeError):
            return
        if kind != (*_KIND, path) or not all(map(_is_current, at_once)):
            return
        self._at_once = at_once
        self._index = {entry[0]: entry for entry in (*later, *at_once)}

    def run(self) -> None:
        """Runs the modules that most calls need; this object is among the finders by now."""
        modules, make = sys.modules, type(sys)
        for entry in self._at_once:
            name = entry[0]
            if name in modules:
                continue
            module = make(name)
            values = module.__dict__
            spec = values["__spec__"] = self._spec(entry)
            parent, _, last = name.rpartition(".")
            values["__file__"], values["__loader__"], values["__package__"] = entry[1], self, parent
            if entry[2]:
                values["__package__"], values["__path__"] = name, spec.submodule_search_locations
            modules[name] = module
            try:
                exec(entry[5], values)  # type: ignore[arg-type]
            except (ImportError, AttributeError):  # a circle, in which the usual order counts
                del modules[name]
                continue
            if parent:
                setattr(modules[parent], last, module)

    def _spec(self, entry: Entry) -> "ModuleSpec":
        spec: ModuleSpec = _bootstrap.ModuleSpec(entry[0], self, origin=entry[1], is_package=entry[2])
        if entry[2]:
            assert spec.submodule_search_locations is not None
            spec.submodule_search_locations.append(entry[1].rpartition("/")[0])
        return spec

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        """As importlib has it."""
        entry = self._index.get(name)
        if entry is not None and _is_current(entry):
            if entry[5] is None:
                loader = _external.ExtensionFileLoader(name, entry[1])
                found: ModuleSpec = _bootstrap.ModuleSpec(name, loader, origin=entry[1])
                return found
            return self._spec(entry)
        self._misses.append(name)
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
        values["__file__"], code = self._index[name][1], self._index[name][5]
        exec(marshal.loads(code) if isinstance(code, bytes) else code, values)  # type: ignore[arg-type]
        _note(self._order, name)

    def keep(self) -> None:
        """Writes the file anew if this process had to load anything that is not in it."""
        if sys.dont_write_bytecode or not any(name in sys.modules for name in self._misses):
            return
        found = {name: one for name in self._misses if (one := _read_module(name)) is not None}
        if not found:
            return
        known = {**self._index, **found}
        names = [entry[0] for entry in self._at_once]
        if self._is_for_one and (len(found) > _FEW or not names):
            names += [
                name for name in self._order if name in known and name not in names and not name.startswith(self._late)
            ]
        at_once = tuple([_unmarshalled(known[name]) for name in names])
        later = tuple([_marshalled(known[name]) for name in sorted({*known} - {*names})])
        _write(self._path, marshal.dumps(((*_KIND, self._path), at_once, later)))


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


def _unmarshalled(entry: Entry) -> Entry:
    return (*entry[:5], marshal.loads(entry[5])) if isinstance(entry[5], bytes) else entry


def _marshalled(entry: Entry) -> Entry:
    return entry if isinstance(entry[5], bytes | None) else (*entry[:5], marshal.dumps(entry[5]))


def _is_current(entry: Entry) -> bool:
    try:
        found = posix.stat(entry[1])
    except OSError:
        return False
    return int(found.st_mtime) & _WHOLE_INT == entry[3] and found.st_size & _WHOLE_INT == entry[4]


def _read_module(name: str) -> Entry | None:
    # What a module that was loaded the usual way is in the file; None for what has no cache that goes by time.
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if spec is None or spec.origin is None:
        return None
    try:
        if type(spec.loader) is _external.ExtensionFileLoader:
            found = posix.stat(spec.origin)
            return (name, spec.origin, False, int(found.st_mtime) & _WHOLE_INT, found.st_size & _WHOLE_INT, None)
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
    return (name, spec.origin, spec.submodule_search_locations is not None, time, size, data[_PYC_HEAD:])


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
