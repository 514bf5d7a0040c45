"""Three runtimes behind one face: the project's own as a library, Debian's runc and crun as commands.

Each has a bundle of its own with the same root (busybox) and gets the same config.json. What a runtime refuses is
`Refused`, with its words; nothing else of an answer differs between them.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kernelproof.impl.libcontainer import Container, ContainerError, Runtime, StartError, lifecycle, parse_config
from kernelproof.impl.libcontainer.config.reading import load_process
from kernelproof.impl.libcontainer.nsinit.main import main

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SECONDS = 30
CGROUPS = Path("/sys/fs/cgroup")
KINDS = ("pid", "network", "ipc", "uts", "mount", "cgroup")
PROC = {"destination": "/proc", "type": "proc", "source": "proc"}
DEV = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}
ACCEPTED, REFUSED = "accepted", "refused"


class Refused(Exception):
    """A runtime did not do what it was asked to; its words."""


class Ended(NamedTuple):
    """A program that came to its end in a container: exit status, and what it wrote to its output and its errors."""

    status: int
    output: str
    errors: str


def namespaces(*kinds: str, **paths: object) -> list[dict[str, object]]:
    """`namespaces` of a configuration: new ones, then those that are joined by path."""
    new: list[dict[str, object]] = [{"type": kind} for kind in kinds]
    return new + [{"type": kind, "path": str(path)} for kind, path in paths.items()]


def config(
    *args: str, process: Mapping[str, object] = {}, linux: Mapping[str, object] = {}, **members: object
) -> dict[str, Any]:
    """A config.json: a program in namespaces of its own; `process`, `linux` and other members change it."""
    return {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": list(args), "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, **process},
        "mounts": [PROC, DEV],
        "linux": {"namespaces": namespaces(*KINDS), **linux},
        **members,
    }


def tmpfs(at: str, *options: str) -> dict[str, object]:
    """A mount of memory."""
    return {"destination": at, "type": "tmpfs", "source": "tmpfs", "options": list(options)}


def bind(source: str | Path, at: str, *options: str) -> dict[str, object]:
    """A bind mount; `options` replace `bind`."""
    return {"destination": at, "type": "none", "source": str(source), "options": list(options) or ["bind"]}


class Mounted(NamedTuple):
    """A line of mountinfo: options of the mount and of the file system, propagation without numbers, type."""

    options: frozenset[str]
    propagation: list[str]
    fstype: str

    def has(self, *words: str) -> bool:
        """Whether all these are set."""
        return self.options >= set(words)

    def lacks(self, *words: str) -> bool:
        """Whether none of these is set."""
        return not self.options & set(words)


def mount_at(box: Box, place: str, *mounts: Mapping[str, object], **members: Any) -> Mounted:
    """What stands last at a place of a container with these mounts, as its own mountinfo has it."""
    said = box.said("cat", "/proc/self/mountinfo", mounts=[PROC, *([] if DEV in mounts else [DEV]), *mounts], **members)
    return mounted_at(said, place)


def mounted_at(mountinfo: str, place: str) -> Mounted:
    """What stands last at a place."""
    line = [line for line in mountinfo.splitlines() if line.split()[4] == place][-1]
    before, _, after = line.partition(" - ")
    fstype, _, of_fs = after.split(" ", 2)
    fields = before.split()
    words = [*fields[5].split(","), *of_fs.split(",")]
    propagation = [field.partition(":")[0] for field in fields[6:]]
    return Mounted(frozenset(words), propagation, fstype)


def value_of(box: Box, name: str, **process: object) -> str:
    """A line of /proc/PID/status of a program that is asked for with these members of `process`."""
    return (
        box.said("grep", f"^{name}:", "/proc/self/status", process=process).partition(":")[2].replace("\t", " ").strip()
    )


def cgroup_of(pid: int) -> Path:
    """The directory of a process's cgroup of version 2."""
    line = next(line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
    return CGROUPS / line[len("0::/") :]


def new_namespace(name: str) -> str:
    """The path of a new namespace, by its name in /proc/PID/ns, that lives on in a process which only sleeps."""
    option = {"net": "--net", "ipc": "--ipc", "uts": "--uts", "pid": "--pid", "cgroup": "--cgroup"}[name]
    reader, writer = os.pipe()
    words = ["unshare", option, *(["--fork"] if name == "pid" else []), "sh", "-c", "echo made; exec sleep 1000 >&-"]
    pid = os.posix_spawnp("unshare", words, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
    os.close(writer)
    with open(reader, "rb") as said:
        assert said.readline() == b"made\n", f"{words} has made no namespace"
    return f"/proc/{pid}/ns/{'pid_for_children' if name == 'pid' else name}"


def readable(descriptor: int) -> bool:
    """Whether something can be read from it before long."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(SECONDS * 1000))


def host_shell(text: str) -> str:
    """What a script on the host writes; it ends with status 0."""
    return subprocess.run(["sh", "-ec", text], check=True, capture_output=True, encoding="utf-8").stdout


class Box:
    """A runtime with a bundle.

    Attributes:
        name: the subject.
        bundle: the bundle's directory.
        rootfs: the root directory of its containers.
    """

    name = ""

    def __init__(self, bundle: Path) -> None:
        self.bundle = bundle
        self.rootfs = bundle / "rootfs"
        self.states = bundle / "states"

    def write(self, text: Mapping[str, Any] | str) -> None:
        """Writes config.json."""
        words = text if isinstance(text, str) else json.dumps(text)
        (self.bundle / "config.json").write_text(words, encoding="utf-8")

    def answer(self, wanted: Mapping[str, Any] | str) -> str:
        """Whether `create` accepts a configuration; nothing stays."""
        try:
            self.create(wanted)
        except Refused:
            return REFUSED
        self.delete(force=True)
        return ACCEPTED

    def does(self, action: Callable[[], object]) -> str:
        """Whether an action is accepted or refused."""
        try:
            action()
        except Refused:
            return REFUSED
        return ACCEPTED

    def said(self, *args: str, **members: Any) -> str:
        """What a program of busybox writes in a container; `members` as for `config`. It ends with status 0."""
        ended = self.run(config(*args, **members))
        assert ended.status == 0, ended
        return ended.output

    def script(self, text: str, **members: Any) -> list[str]:
        """The lines that a shell script writes."""
        return self.said("sh", "-c", text, **members).splitlines()

    def create(self, wanted: Mapping[str, Any] | str, id: str = "box") -> None:
        raise NotImplementedError

    def run(self, wanted: Mapping[str, Any] | str, id: str = "box") -> Ended:
        raise NotImplementedError

    def start(self, id: str = "box") -> None:
        raise NotImplementedError

    def kill(self, number: int | str = signal.SIGKILL, id: str = "box") -> None:
        raise NotImplementedError

    def wait(self, id: str = "box") -> int:
        raise NotImplementedError

    def execute(self, process: Sequence[str] | Mapping[str, Any], id: str = "box") -> Ended:
        raise NotImplementedError

    def command(self, *words: str, input: str = "") -> str:
        """What a subcommand prints."""
        raise NotImplementedError

    def state(self, id: str = "box") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.command("state", id))
        return found

    def status(self, id: str = "box") -> str:
        return str(self.state(id)["status"])

    def pid(self, id: str = "box") -> int:
        return int(self.state(id)["pid"])

    def delete(self, id: str = "box", *, force: bool = False) -> None:
        raise NotImplementedError

    def delete_all(self) -> None:
        """Removes what is left, by force."""
        for id in os.listdir(self.states) if self.states.exists() else ():
            self.delete(id, force=True)

    def pause(self, id: str = "box") -> None:
        self.command("pause", id)

    def resume(self, id: str = "box") -> None:
        self.command("resume", id)

    def begin(self, wanted: Mapping[str, Any], id: str = "box") -> int:
        """Creates and starts; the pid of the container's process."""
        self.create(wanted, id)
        self.start(id)
        return self.pid(id)

    def files(self) -> tuple[Path, Path]:
        """Where containers write their output and their errors."""
        return self.bundle / "out", self.bundle / "err"

    def output(self) -> str:
        """What containers have written to their output since the last `create` or `run`."""
        return self.files()[0].read_text(encoding="utf-8", errors="replace")


class Library(Box):
    """The project's own: nothing but calls in this process, and the helpers that it starts."""

    name = "impl"

    def __init__(self, bundle: Path, runtime: Runtime) -> None:
        super().__init__(bundle)
        self.runtime = runtime
        self._made: dict[str, Container] = {}

    def create(self, wanted: Mapping[str, Any] | str, id: str = "box") -> None:
        self.write(wanted)
        with _refusing(), contextlib.ExitStack() as stack:
            text = (self.bundle / "config.json").read_bytes()
            out, err = (stack.enter_context(open(path, "wb")).fileno() for path in self.files())
            null = stack.enter_context(open(os.devnull, "rb")).fileno()
            self._made[id] = self.runtime.create(
                id, parse_config(text), bundle=self.bundle, stdin=null, stdout=out, stderr=err
            )

    def run(self, wanted: Mapping[str, Any] | str, id: str = "box") -> Ended:
        self.create(wanted, id)
        try:
            self.start(id)
            status = self.wait(id)
        finally:
            self.delete(id, force=True)
        return Ended(status, *(path.read_text("utf-8", "replace") for path in self.files()))

    def start(self, id: str = "box") -> None:
        with _refusing():
            self.runtime.find(id).start()

    def kill(self, number: int | str = signal.SIGKILL, id: str = "box") -> None:
        self.command("kill", id, str(int(number)) if isinstance(number, int) else number)

    def wait(self, id: str = "box") -> int:
        return self._made[id].wait(SECONDS)

    def execute(self, process: Sequence[str] | Mapping[str, Any], id: str = "box") -> Ended:
        with _refusing(), contextlib.ExitStack() as stack:
            paths = [self.bundle / "exec-out", self.bundle / "exec-err"]
            out, err = (stack.enter_context(open(path, "wb")).fileno() for path in paths)
            asked = process if not hasattr(process, "keys") else load_process(self._file(process))
            made = stack.enter_context(self.runtime.find(id).execute(asked, stdout=out, stderr=err))
            return Ended(made.wait(SECONDS), *(path.read_text("utf-8", "replace") for path in paths))

    def _file(self, value: object) -> Path:
        path = self.bundle / "process.json"
        path.write_text(json.dumps(value), encoding="utf-8")
        return path

    def command(self, *words: str, input: str = "") -> str:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(["--root", str(self.states), *words])
        if status:
            raise Refused(err.getvalue().strip())
        return out.getvalue()

    def state(self, id: str = "box") -> dict[str, Any]:
        with _refusing():
            return lifecycle.read_state(str(self.states), id)

    def delete(self, id: str = "box", *, force: bool = False) -> None:
        with _refusing():
            if (made := self._made.get(id)) is not None:
                made.delete(force=force)
            else:
                lifecycle.delete(str(self.states), id, force=force)


@contextlib.contextmanager
def _refusing() -> Any:
    try:
        yield
    except (StartError, ContainerError, OSError, ValueError) as error:
        raise Refused(str(error)) from error


class Peer(Box):
    """A runtime of others: its command. This process must be a child subreaper, and waits for its containers."""

    def __init__(self, bundle: Path, name: str) -> None:
        super().__init__(bundle)
        self.name = name
        self._pids: dict[str, int] = {}

    def create(self, wanted: Mapping[str, Any] | str, id: str = "box") -> None:
        self.write(wanted)
        pid_file = self.bundle / f"pid-{id[:20].replace('/', '-')}"
        self._call("create", "--bundle", str(self.bundle), "--pid-file", str(pid_file), id)
        self._pids[id] = int(pid_file.read_text())

    def run(self, wanted: Mapping[str, Any] | str, id: str = "box") -> Ended:
        self.write(wanted)
        ended = self._spawn(self.files(), "run", "--bundle", str(self.bundle), id)
        return self._unless_refused(ended)

    def start(self, id: str = "box") -> None:
        self._call("start", id)

    def kill(self, number: int | str = signal.SIGKILL, id: str = "box") -> None:
        self._call("kill", id, str(int(number)) if isinstance(number, int) else number)

    def wait(self, id: str = "box") -> int:
        pid = self._pids[id]
        pidfd = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(SECONDS * 1000):
                raise TimeoutError(f"{self.name}: process {pid} has not ended after {SECONDS} s")
        finally:
            os.close(pidfd)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return 128 - code if code < 0 else code

    def execute(self, process: Sequence[str] | Mapping[str, Any], id: str = "box") -> Ended:
        if hasattr(process, "keys"):
            (self.bundle / "process.json").write_text(json.dumps(process), encoding="utf-8")
            words = ["--process", str(self.bundle / "process.json"), id]
        else:
            words = [id, *process]
        ended = self._spawn((self.bundle / "exec-out", self.bundle / "exec-err"), "exec", *words)
        return self._unless_refused(ended)

    def command(self, *words: str, input: str = "") -> str:
        return self._call(*words, to=(self.bundle / "command-out", self.bundle / "command-err"), input=input).output

    def delete(self, id: str = "box", *, force: bool = False) -> None:
        self._call("delete", *(["--force"] if force else []), id)

    def _call(self, *words: str, to: tuple[Path, Path] | None = None, input: str = "") -> Ended:
        ended = self._spawn(to or self.files(), *words, input=input)
        if ended.status:
            raise Refused(ended.errors.strip())
        return ended

    def _unless_refused(self, ended: Ended) -> Ended:
        # The exit status may be the program's; the runtime's own errors are in its log.
        records = [json.loads(line) for line in (self.bundle / "log").read_text(encoding="utf-8").splitlines()]
        if ended.status and any(record["level"] == "error" for record in records):
            raise Refused(records[-1]["msg"])
        return ended

    def _finished(self, command: list[str], **members: Any) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(command, timeout=SECONDS, check=False, **members)
        except subprocess.TimeoutExpired as error:
            raise Refused(str(error)) from error

    def _spawn(self, to: tuple[Path, Path], *words: str, input: str = "") -> Ended:
        # Files, as the container's process inherits them and would keep pipes open.
        source = self.bundle / "input"
        source.write_text(input, encoding="utf-8")
        log = self.bundle / "log"
        log.write_bytes(b"")
        with open(source, "rb") as given, open(to[0], "wb") as out, open(to[1], "wb") as err:
            done = self._finished(
                [self.name, "--root", str(self.states), "--log", str(log), "--log-format", "json", *words],
                cwd=self.bundle,
                env={"PATH": os.environ["PATH"]},
                stdin=given,
                stdout=out,
                stderr=err,
            )
        return Ended(done.returncode, *(path.read_text("utf-8", "replace") for path in to))


def make_rootfs(at: Path) -> None:
    """A root with busybox under every name that it knows."""
    for name in ("bin", "proc", "dev", "sys", "etc", "tmp", "data"):
        (at / name).mkdir(parents=True)
    found = shutil.which("busybox")
    assert found is not None, "the profile `runtimes` has busybox"
    shutil.copy(found, at / "bin/busybox")
    for name in APPLETS:
        (at / "bin" / name).symlink_to("busybox")


APPLETS = (
    *("cat", "chmod", "date", "dd", "df", "echo", "env", "false", "grep", "head", "hostname", "id", "ip", "kill", "ls"),
    *(
        "mkdir",
        "mknod",
        "mount",
        "nice",
        "printf",
        "ps",
        "pwd",
        "readlink",
        "rm",
        "sh",
        "sleep",
        "stat",
        "sysctl",
        "test",
    ),
    *("ionice", "touch", "tr", "true", "tty", "umount", "uname", "wc"),
)
