"""Rules of the core, each with the wrong way first; no root, no container."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.impl.libcontainer.hooks import HookError
from kernelproof.impl.libcontainer.locking import StateLock
from kernelproof.impl.libcontainer.operations import Operation, Remedy, Site, StartError
from kernelproof.impl.libcontainer.process.channel import Channel, Message, open_channel
from kernelproof.impl.libcontainer.process.identity import Identity, open_process, read_identity
from kernelproof.impl.libcontainer.process.maps import remedy
from kernelproof.impl.libcontainer.process.program import check_directory, explain
from kernelproof.impl.libcontainer.process.remedies import find_remedy, too_many_namespaces
from kernelproof.impl.libcontainer.process.sealing import copy_sealed
from kernelproof.impl.libcontainer.process.walking import Birth, Child, HostWalk, advised, failure

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="containers are Linux's")


class Step(Operation):
    """An operation that tells when it is done and undone, and may fail."""

    __slots__ = ("failing", "name", "stage_name", "undo_failing")
    failing: bool
    name: str
    stage_name: str
    undo_failing: bool

    @property
    def stage(self) -> str:  # type: ignore[override]
        return self.stage_name

    def describe(self) -> str:
        return self.name

    def do(self, site: Site) -> None:
        if self.name == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.name)
        self._note(site, f"do {self.name}")

    def undo(self, site: Site) -> None:
        self._note(site, f"undo {self.name}")
        if self.undo_failing:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), self.name)

    @staticmethod
    def _note(site: Site, text: str) -> None:
        notes = site.found.setdefault("notes", [])
        assert isinstance(notes, list)
        notes.append(text)


def step(name: str, stage: str = "host", *, failing: bool = False, undo_failing: bool = False) -> Step:
    return Step(failing, name, stage, undo_failing)


class Forked(Birth):
    """A process made in the plainest way; it speaks `words` in place of walking the plan, if there are any."""

    __slots__ = ("words",)
    words: tuple[tuple[int, str], ...]

    def describe(self) -> str:
        return "fork"

    def make(self, site: Site) -> Child | Channel:
        ours, theirs = open_channel()
        pid = os.fork()
        if pid == 0:
            ours.close()
            if not self.words:
                return theirs
            theirs.receive()
            for number, kind in self.words:
                theirs.send(number, kind)
            theirs.receive()
            os._exit(0)
        theirs.close()
        return Child(pid, os.pidfd_open(pid), ours, is_ours=True)


def walk(*operations: Operation, how: type[HostWalk] = HostWalk) -> tuple[StartError, Site]:
    """Walks a plan that fails; its error and what the host's operations noted."""
    site = Site()
    made = how(operations, site)
    with pytest.raises(StartError) as failed:
        made.run()
    site.close()
    return failed.value, site


class StopsUndoing(HostWalk):
    """Undoes until that fails itself."""

    def undo(self) -> tuple[str, ...]:
        while self._done:
            try:
                self._done.pop().undo(self.site)
            except OSError:
                break
        return ()


@pytest.mark.rule("K18", ours=HostWalk, wrong=StopsUndoing)
def test_all_is_undone_in_reverse(subject: type[HostWalk]) -> None:
    """What was done is undone last first, also after an undoing failed, and the first error is told."""
    error, site = walk(step("a"), step("b", undo_failing=True), step("c"), step("d", failing=True), how=subject)
    assert site.found["notes"] == ["do a", "do b", "do c", "undo c", "undo b", "undo a"]
    assert (error.stage, error.call, error.errno, error.path) == ("host", "Step", errno.ENOSPC, "d")
    assert error.left == ("not taken back: b: [Errno 16] Device or resource busy: 'b'",)


class SaysEndOfFile(HostWalk):
    """Tells only that nothing came."""

    def _lost(self) -> StartError:
        self._born().end()
        return StartError("init", "read", 0, "pipe", "can't get final child's PID from pipe: EOF")


@pytest.mark.rule("K10", ours=HostWalk, wrong=SaysEndOfFile)
def test_a_death_without_a_word_is_told(subject: type[HostWalk]) -> None:
    """The stage in which the process was, and the signal that ended it, are in the error."""
    error, _ = walk(Forked(()), step("fine", "init"), step("host"), step("die", "root"), step("end"), how=subject)
    assert "was killed by signal 9 in stage root" in str(error)
    assert error.stage == "root"


@pytest.mark.rule("K+1")
@pytest.mark.parametrize("stage", ["init", "root", "final"])
def test_each_stage_tells_a_record(stage: str) -> None:
    """An operation that fails in the process is the same record here: stage, call, number, object, sentence."""
    error, site = walk(step("first"), Forked(()), step("mount", stage, failing=True), step("last"))
    assert error.as_record() == {
        "stage": stage,
        "call": "Step",
        "errno": errno.ENOSPC,
        "path": "mount",
        "detail": "no space left on device",
        "remedy": "",
    }
    assert str(error) == f"{stage}: Step mount: no space left on device (ENOSPC)"
    assert site.found["notes"] == ["do first", "undo first"]


class Refused(Operation):
    """Fails as the kernel would, with words of what helps."""

    __slots__ = ()
    stage = "init"

    def describe(self) -> str:
        return "map"

    def do(self, site: Site) -> None:
        error = PermissionError(errno.EPERM, "Operation not permitted")
        error.add_note("write('0 0 1')")
        error.add_note(Remedy("map it"))
        raise error


@pytest.mark.rule("K+1")
def test_what_helps_is_told_as_such() -> None:
    """A note that is a remedy is the record's remedy, over the wire too, and the other notes are of its detail."""
    error, _ = walk(step("first"), Forked(()), Refused(), step("last"))
    record = error.as_record()
    assert (record["detail"], record["remedy"]) == ("operation not permitted; write('0 0 1')", "Map it")
    assert str(error) == "init: Refused: operation not permitted; write('0 0 1') (EPERM). Map it"


def test_what_was_tried_is_told_where_no_path_is() -> None:
    """An error without a path and notes says what the operation was to do, and what helps if its number says that."""
    told = advised(failure(step("look"), "host", OSError(errno.EMFILE, "Too many open files")))
    assert told.detail == "too many open files; this was to look"
    assert told.remedy == "Raise the limit of open files (RLIMIT_NOFILE; ulimit -n)"
    assert failure(step("look"), "host", OSError(errno.EIO, "Input/output error", "/x")).detail == "input/output error"
    hook = HookError("the poststart hook /bin/false exited with 1")
    assert str(failure(None, "host", hook)) == "host: the poststart hook /bin/false exited with 1"
    assert str(failure(None, "host", TypeError("odd"))) == "host: TypeError: odd"
    assert failure(step("look"), "host", OSError("AF_UNIX path too long")).detail.startswith("AF_UNIX path too long")


def test_which_limit_of_namespaces_helps(tmp_path: Path) -> None:
    """The sysctl that forbids any is named; else all are, and how deep they can be."""
    for kind in ("mnt", "user", "net"):
        (tmp_path / f"max_{kind}_namespaces").write_text("0\n" if kind == "user" else "7\n")
    assert too_many_namespaces(str(tmp_path)) == "Raise user.max_user_namespaces, which forbids any"
    (tmp_path / "max_user_namespaces").write_text("1\n")
    assert "32 deep" in too_many_namespaces(str(tmp_path))
    assert "max_" in find_remedy("MakeProcess", errno.ENOSPC)
    assert find_remedy("Recorded", errno.ENOSPC) == ""


class TakesAnyWord(HostWalk):
    """Takes whatever comes for what it waits for."""

    def _wait(self, number: int) -> None:
        self._receive()


@pytest.mark.rule("K11", ours=HostWalk, wrong=TakesAnyWord)
def test_a_message_out_of_turn_is_an_error(subject: type[HostWalk]) -> None:
    """A readiness of another operation is not taken for the one that is due."""
    error, site = walk(Forked(((7, "reached"),)), step("x", "init"), step("told"), step("y", failing=True), how=subject)
    assert "reached 7 came where operation 2 was to be reached" in error.detail
    assert "do told" not in site.found.get("notes", ())  # type: ignore[operator]


class LockOfProcess:
    """A lock of POSIX."""

    def __init__(self, directory: int, *, wait: bool = True) -> None:
        self.fd = os.open("lock", os.O_RDWR | os.O_CREAT, 0o600, dir_fd=directory)
        fcntl.lockf(self.fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))

    def release(self) -> None:
        os.close(self.fd)


@pytest.mark.rule("K11", ours=StateLock, wrong=LockOfProcess, raises=pytest.fail.Exception)
def test_threads_exclude_each_other(subject: Callable[..., StateLock], tmp_path: Path) -> None:
    """A lock that one thread holds is not given to another thread of the same process."""
    directory = os.open(tmp_path, os.O_RDONLY)
    held = subject(directory)
    seen: list[type[BaseException] | None] = []

    def attempt() -> None:
        try:
            subject(directory, wait=False).release()
        except OSError as error:
            seen.append(type(error))
        else:
            seen.append(None)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    held.release()
    os.close(directory)
    if seen != [BlockingIOError]:
        pytest.fail(f"the second thread got {seen}")


def open_by_number(identity: Identity) -> int | None:
    """Believes the pid."""
    return os.pidfd_open(identity.pid)


@pytest.mark.rule("K12", ours=open_process, wrong=open_by_number)
def test_a_stranger_is_not_taken_for_it(subject: Callable[[Identity], int | None]) -> None:
    """A process that was given the pid later is not the one that is meant; nor is one with another pidfd's inode."""
    pidfd = os.pidfd_open(os.getpid())
    own = read_identity(os.getpid(), pidfd)
    os.close(pidfd)
    found = subject(own)
    assert found is not None
    os.close(found)
    for other in (Identity(own.pid, own.start_time - 1, own.inode), Identity(own.pid, own.start_time, own.inode + 1)):
        stranger = subject(other)
        if stranger is not None:
            os.close(stranger)
        assert stranger is None


def trust(path: str) -> None:
    """Believes chdir."""


@pytest.mark.rule("K3", ours=check_directory, wrong=trust, raises=pytest.fail.Exception)
def test_a_directory_without_a_name_is_refused(
    subject: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A working directory that can't be found from the root ends the start."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(OSError, match="outside the container's root"):
        subject("/proc/self/fd/7")


def copy_plainly() -> int:
    """A copy in memory that is not sealed."""
    copy = os.memfd_create("interpreter")
    os.write(copy, Path("/proc/self/exe").read_bytes()[:4096])
    return copy


@pytest.mark.rule("K4", ours=copy_sealed, wrong=copy_plainly, raises=pytest.fail.Exception)
def test_the_copy_can_not_be_written(subject: Callable[[], int]) -> None:
    """Nobody writes to the copy, makes it shorter or longer, by whatever descriptor."""
    copy = subject()
    try:
        for attempt in (
            lambda: os.pwrite(copy, b"x", 0),
            lambda: os.ftruncate(copy, 1),
            lambda: os.truncate(f"/proc/self/fd/{copy}", 1 << 30),
        ):
            with pytest.raises(PermissionError):
                attempt()
    finally:
        os.close(copy)


def leave_the_error(error: OSError, program: str) -> OSError:
    """Passes on what execve said."""
    return error


@pytest.mark.rule("K13", ours=explain, wrong=leave_the_error)
@pytest.mark.parametrize(
    "line", ["#!/nothing/here -x\n", "#! /nothing/here\n", "#!/nothing/here"], ids=["arg", "blank", "cut"]
)
def test_a_missing_interpreter_is_named(subject: Callable[[OSError, str], OSError], line: str, tmp_path: Path) -> None:
    """ENOENT of a script that is there names the interpreter that is not."""
    script = tmp_path / "script"
    script.write_text(line)
    found = subject(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)), str(script))
    assert "its interpreter '/nothing/here' is missing" in getattr(found, "__notes__", [])
    assert found.filename == str(script)


def shrug(restriction: str) -> str:
    """Says what the kernel says."""
    return "operation not permitted"


@pytest.mark.rule("K14", ours=remedy, wrong=shrug)
def test_who_denies_a_user_namespace_is_named(subject: Callable[[str], str], tmp_path: Path) -> None:
    """Where AppArmor restricts user namespaces, the setting, the profile's rule and another way are in the remedy."""
    setting = tmp_path / "apparmor_restrict_unprivileged_userns"
    setting.write_text("1\n")
    said = subject(str(setting))
    assert str(setting) in said
    assert "userns," in said
    assert "Landlock" in said
    setting.write_text("0\n")
    assert "AppArmor" not in subject(str(setting))


def test_a_channel_bounds_and_refuses(tmp_path: Path) -> None:
    """What is no message is an error, its descriptors closed; an end is None."""
    ours, theirs = open_channel()
    theirs.send(3, "word", {"a": [1, None, "ü"]}, [0])
    message = ours.receive()
    assert isinstance(message, Message)
    assert (message.number, message.kind, message.values) == (3, "word", {"a": [1, None, "ü"]})
    os.close(message.descriptors[0])
    os.write(theirs.fileno(), b"[1, 2]")
    with pytest.raises(Exception, match="no message"):
        ours.receive()
    theirs.close()
    assert ours.receive() is None
    ours.close()


def test_a_plain_import_loads_nothing_slow() -> None:
    """What runs a container loads none of the modules that cost more than they give."""
    names = "kernelproof.impl.libcontainer.lifecycle, kernelproof.impl.libcontainer.running"
    program = f"import sys, {names}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded & {"asyncio", "argparse", "dataclasses", "json", "logging", "pathlib", "subprocess"} == set()
