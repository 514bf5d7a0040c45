"""The container's process is born: in its new PID namespace, in its cgroup, told by a pidfd.

Two roads lead there. Mostly the runtime itself clones it. Where it must be born into a PID, user or time namespace that
is of a path, or that needs a user namespace made before, a process goes ahead, enters those, clones the container's
process as its own sibling, and ends: so there is no process between the container and the runtime, nor left behind.

With `site.found["sibling"]` the process becomes a sibling of the runtime, not its child: who started the runtime (a
library, by a helper) is then the one that waits for it.

Source: clone(2), CLONE_PARENT, CLONE_INTO_CGROUP; time_namespaces(7); pid_namespaces(7).
"""

from __future__ import annotations

import errno
import os
import sys

from kernelproof.impl._syscalls import foreign  # noqa: F401 - what the process needs is loaded before it is born
from kernelproof.impl._syscalls.descriptors import close_range
from kernelproof.impl._syscalls.namespaces import Cloned, CloneFlag, clone3, unshare
from kernelproof.impl._syscalls.prctl import PR_SET_DUMPABLE, prctl
from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.libcontainer.namespaces import FLAGS
from kernelproof.impl.libcontainer.operations import Operation, Site, StartError
from kernelproof.impl.libcontainer.process.channel import Channel, ChannelError, open_channel
from kernelproof.impl.libcontainer.process.joining import PREFIX, become_root, join_all
from kernelproof.impl.libcontainer.process.walking import FAILURES, Birth, Child, error_of, failure
from kernelproof.impl.libcontainer.rootfs.entering import enter_root

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from typing import NoReturn

    from kernelproof.impl.libcontainer.process.maps import WriteIdMaps

_SIGCHLD = 17
_PIDFD = int(CloneFlag.PIDFD)
_PARENT = int(CloneFlag.PARENT)
_INTO_CGROUP = int(CloneFlag.INTO_CGROUP)
_TASKS = "/proc/self/task"
_NO_CGROUP = (errno.EBUSY, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM, errno.ENODEV, errno.EINVAL)


def clone(flags: int, site: Site, *, tasks: str | None = _TASKS) -> Cloned:
    """Clones, into the cgroup whose descriptor is `site.found["cgroup directory"]` if the kernel lets it.

    Whether it did stands in `site.found["in cgroup"]`; that the cgroup can't be entered so is no error yet. `tasks` is
    as for clone3.

    Raises:
        OSError: as clone3.
    """
    exit_signal = 0 if flags & _PARENT else _SIGCHLD
    cgroup = site.found.get("cgroup directory")
    if isinstance(cgroup, int):
        try:
            site.found["in cgroup"] = True
            return clone3(flags | _PIDFD | _INTO_CGROUP, exit_signal=exit_signal, cgroup_fd=cgroup, tasks=tasks)
        except OSError as error:
            if error.errno not in _NO_CGROUP:
                raise
    site.found["in cgroup"] = False
    return clone3(flags | _PIDFD, exit_signal=exit_signal, tasks=tasks)


def keep_only(site: Site, *channels: Channel, also: tuple[int, ...] = ()) -> None:
    """Closes what the process does not need: all but the first three, what stands in the site, and its channels.

    Descriptors that are to be handed to the program stay (`site.found["preserved"]`: how many, from 3 on).

    Raises:
        OSError: neither close_range(2) nor procfs.
    """
    preserved = site.found.get("preserved", 0)
    assert isinstance(preserved, int)
    kept = {*range(3 + preserved), *site.descriptors.values(), *(channel.fileno() for channel in channels), *also}
    try:
        first = 0
        for fd in sorted(kept):
            if first < fd:
                close_range(first, fd - 1)
            first = fd + 1
        close_range(first)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):  # EPERM: a seccomp filter that knows no better
            raise
        _close_each(kept)


def _close_each(kept: set[int]) -> None:
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except FileNotFoundError:  # the container's procfs, which does not know a scout
        numbers = list(range(os.sysconf("SC_OPEN_MAX")))
    for number in numbers:
        if number not in kept:
            with suppress(OSError):  # EBADF: that of the listing
                os.close(number)


def begin_life(operation: Operation, site: Site, channel: Channel, *runtimes: Channel) -> Channel:
    """What the new process does first: it closes what is not its own, and returns its end of the channel.

    No exception leaves it, since the frames above are the runtime's: it would take back what the runtime did, and kill
    all in its own cgroup. Where a kernel has no `cgroup.kill` it froze itself there for that, and the runtime waited
    for its word for ever.
    """
    try:
        for end in runtimes:
            end.detach()  # closed with the rest; the object must not close the number again
        keep_only(site, channel)
    except BaseException as error:  # noqa: BLE001 - told, and the end of this process
        leave(operation, channel, error)
    return channel


def leave(operation: Operation, channel: Channel, error: BaseException) -> NoReturn:
    """Tells what failed, and ends this process."""
    try:
        if isinstance(error, FAILURES):
            channel.send(0, "error", failure(operation, "init", error).as_record())
    finally:
        os._exit(1)  # also where nobody listens any more


class MakeProcess(Birth):
    """Clones the container's process into new namespaces of some kinds."""

    __slots__ = ("kinds",)
    kinds: tuple[str, ...]

    def describe(self) -> str:
        """What will happen."""
        return "make the container's process" + (f" in new namespaces: {', '.join(self.kinds)}" if self.kinds else "")

    def make(self, site: Site) -> Child | Channel:
        """Makes it.

        Raises:
            OSError: what clone3(2) gives: EAGAIN, ENOMEM, ENOSPC: a limit of namespaces; EPERM.
        """
        ours, theirs = open_channel()
        flags = _PARENT if site.found.get("sibling") else 0
        for kind in self.kinds:
            flags |= FLAGS[kind]
        sys.stdout.flush()
        sys.stderr.flush()
        cloned = clone(flags, site)
        if cloned.pid == 0:
            return begin_life(self, site, theirs, ours)
        theirs.close()
        assert cloned.pidfd is not None
        return Child(cloned.pid, cloned.pidfd, ours, is_ours=not flags & _PARENT)


class MakeProcessByScout(Birth):
    """Clones the container's process by one that enters namespaces first.

    Attributes:
        enters: whether others are at work in the container, who may look at each process of their PID namespace: the
            scout, which is not in it, leaves all that is the host's behind before the process is born.
        joined: kinds that are of a path, opened before.
        maps: for a user namespace among the new ones.
        new: kinds that are made.
        offsets: of the clocks of a new time namespace, as its file has them.
    """

    __slots__ = ("enters", "joined", "maps", "new", "offsets")
    enters: bool
    joined: tuple[str, ...]
    maps: WriteIdMaps | None
    new: tuple[str, ...]
    offsets: str

    def describe(self) -> str:
        """What will happen."""
        steps = []
        if self.joined:
            steps.append(f"joins {', '.join(self.joined)}")
        if self.new:
            steps.append(f"makes {', '.join(self.new)}")
        if self.maps is not None:
            steps.append(f"has its IDs mapped ({self.maps.describe()})")
        if self.offsets:
            steps.append(f"moves the clocks ({self.offsets.strip()})".replace("\n", ", "))
        return f"make the container's process by a scout that {'; '.join(steps)}"

    def make(self, site: Site) -> Child | Channel:
        """Makes it; errors as MakeProcess, and StartError: the scout failed, with what it met."""
        ours, theirs = open_channel()
        here, there = open_channel()
        sibling = bool(site.found.get("sibling"))
        sys.stdout.flush()
        sys.stderr.flush()
        scout = clone3(_PIDFD | (_PARENT if sibling else 0), exit_signal=0 if sibling else _SIGCHLD)
        if scout.pid == 0:
            return self._scout(site, there, theirs, here, ours)
        there.close()
        theirs.close()
        assert scout.pidfd is not None
        helper = Child(scout.pid, scout.pidfd, here, is_ours=not sibling)
        try:
            cloned = self._await(helper)
        except BaseException:
            helper.kill()
            ours.close()
            raise
        finally:
            here.close()
            if helper.is_ours:
                helper.end()
            os.close(scout.pidfd)
        return Child(
            cloned.pid,
            -1 if cloned.pidfd is None else cloned.pidfd,
            ours,
            is_ours=not sibling,
            helpers=(scout.pid,) if sibling else (),
        )

    def _await(self, helper: Child) -> Cloned:
        while True:
            message = helper.channel.receive()
            if message is None:
                raise StartError("init", "scout", errno.ECHILD, f"pid {helper.pid}", f"the scout {helper.end()}")
            if message.kind == "error":
                raise error_of(message.values)
            if message.kind == "born":
                pid = message.values.get("pid")
                if not isinstance(pid, int) or len(message.descriptors) != 1:
                    raise ChannelError("the scout told of no process")
                return Cloned(pid, message.descriptors[0])
            assert self.maps is not None
            self.maps.write(helper.pid)
            helper.channel.send(message.number, "go")

    def _scout(self, site: Site, way: Channel, theirs: Channel, *runtimes: Channel) -> Channel:
        # Either returns in the container's process, or never: as `begin_life`.
        try:
            for end in runtimes:
                end.close()
            cloned = self._enter(site, way, theirs)
            if cloned.pid == 0:
                return begin_life(self, site, theirs, way)
            assert cloned.pidfd is not None
            way.send(1, "born", {"pid": cloned.pid}, [cloned.pidfd])
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - told, and the end of this process
            leave(self, way, error)

    def _enter(self, site: Site, way: Channel, theirs: Channel) -> Cloned:
        join_all(site, self.joined)
        for kind in self.joined:
            os.close(site.descriptors.pop(PREFIX + kind))
        if "user" in self.new:
            unshare(FLAGS["user"])
            way.send(0, "maps")
            if way.receive() is None:
                os._exit(1)
        if "time" in self.new:
            # Before the IDs change: after that the process's own files in /proc are root's of the host.
            unshare(FLAGS["time"])
            if self.offsets:
                fd = os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
                os.write(fd, self.offsets.encode())
                os.close(fd)
        if "user" in (*self.new, *self.joined):
            become_root()
        if self.enters:
            leave_host(site, way, theirs)
        return clone(_PARENT | (FLAGS["pid"] if "pid" in self.new else 0), site, tasks=None)


def leave_host(site: Site, *channels: Channel) -> None:
    """Gives up what could be had by way of /proc/PID of the process that is born next: root, descriptors, memory.

    The directory of the cgroup stays until then, as the process is born into it.

    Raises:
        OSError: EPERM without CAP_SYS_CHROOT.

    Source: CVE-2016-9962; proc(5), /proc/pid/root, /proc/pid/fd; ptrace(2), "Ptrace access mode checking".
    """
    if "root" in site.descriptors:  # the mounts are the host's, and only the root is another
        enter_root(site)
    cgroup = site.found.get("cgroup directory")
    keep_only(site, *channels, also=(cgroup,) if isinstance(cgroup, int) else ())
    prctl(PR_SET_DUMPABLE, 0)


class MakeUndumpable(Operation):
    """Hides the process's memory and descriptors from whoever else is in its namespaces, until its program runs.

    Source: prctl(2), PR_SET_DUMPABLE.
    """

    __slots__ = ()
    stage = "init"

    def describe(self) -> str:
        """What will happen."""
        return "make the process undumpable"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: what prctl(2) gives.
        """
        prctl(PR_SET_DUMPABLE, 0)
