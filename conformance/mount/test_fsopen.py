"""fsopen(2), fsconfig(2) and fsmount(2)."""

from __future__ import annotations

import os
from contextlib import contextmanager
from errno import EOPNOTSUPP, errorcode
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.mount import FsConfig, FsOpenFlag, MountAttribute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kernelproof.conformance.mount.conftest import InOthersSkin, LineAt, Refusal
    from kernelproof.conformance.seen import Seen


@contextmanager
def context_of(fstype: str = "tmpfs") -> Iterator[int]:
    """A new filesystem context."""
    fd = calls.fsopen(fstype)
    try:
        yield fd
    finally:
        os.close(fd)


@behaviour("mount.fsopen.unprivileged-eperm", subject="impl")
def test_capability_is_needed(as_nobody: InOthersSkin, refusal: Refusal, seen: Seen) -> None:
    """A process without CAP_SYS_ADMIN gets no context."""
    answers = as_nobody(lambda: [refusal(calls.fsopen, "tmpfs"), refusal(mount.FsContext, "tmpfs")])
    assert seen(answers) == ["EPERM", "EPERM"]


@behaviour("mount.fsopen.unknown-type-enodev", subject="impl")
def test_unknown_type(refusal: Refusal, seen: Seen) -> None:
    """There is no context of a type that the kernel has not."""
    assert refusal(mount.FsContext, "nosuchfs") == "ENODEV"
    assert seen.errno_of(calls.fsopen, "nosuchfs") == "ENODEV"


@behaviour("mount.fsopen.unknown-flag-einval", subject="impl")
def test_unknown_flag(seen: Seen) -> None:
    """A flag that is not defined is refused."""
    assert seen.errno_of(calls.fsopen, "tmpfs", 0x80) == "EINVAL"


@behaviour("mount.fsopen.cloexec", subject="impl")
def test_close_on_exec(seen: Seen) -> None:
    """FSOPEN_CLOEXEC makes the descriptor close-on-exec."""
    answers = []
    for flags in (FsOpenFlag.CLOEXEC, 0):
        fd = calls.fsopen("tmpfs", flags)
        answers.append(os.get_inheritable(fd))
        os.close(fd)
    assert seen(answers) == [False, True]


@behaviour("mount.fsopen.message-prefix", subject="impl")
def test_message_of_an_unknown_parameter(refusal: Refusal, seen: Seen) -> None:
    """The message about an unknown parameter begins with "e " and names it."""
    with context_of() as fd:
        assert refusal(calls.fsconfig, fd, FsConfig.SET_STRING, "frobnicate", "1") == "EINVAL"
        message = seen(os.read(fd, 1000)).decode()
    assert message.startswith("e ")
    assert "frobnicate" in message
    with mount.FsContext("tmpfs") as context:
        assert refusal(context.set_string, "frobnicate", "1") == "EINVAL"
        assert [(line.level, "frobnicate" in line) for line in context.log] == [("error", True)]


@behaviour("mount.fsopen.empty-queue-enodata", subject="impl")
def test_no_message(seen: Seen) -> None:
    """A new context has no message."""
    with context_of() as fd:
        assert seen.errno_of(os.read, fd, 1000) == "ENODATA"
    with mount.FsContext("tmpfs") as context:
        assert context.log == ()


@behaviour("mount.fsopen.short-buffer-emsgsize", subject="impl")
def test_short_buffer(refusal: Refusal, seen: Seen) -> None:
    """A message that does not fit the buffer is refused."""
    with context_of() as fd:
        assert refusal(calls.fsconfig, fd, FsConfig.SET_STRING, "frobnicate", "1") == "EINVAL"
        assert seen.errno_of(os.read, fd, 4) == "EMSGSIZE"


@behaviour("mount.fsconfig.unknown-parameter-einval", subject="impl")
def test_unknown_parameter(tree: Path, line_at: LineAt, refusal: Refusal, seen: Seen) -> None:
    """A parameter that tmpfs does not know is refused, and the context can still be used."""
    with context_of() as fd:
        assert seen.errno_of(calls.fsconfig, fd, FsConfig.SET_STRING, "frobnicate", "1") == "EINVAL"
    with mount.FsContext("tmpfs") as context:
        assert refusal(context.set_string, "frobnicate", "1") == "EINVAL"
        context.set_string("size", "64k")
        with context.create().mount() as made:
            made.attach(tree / "a")
    assert "size=64k" in line_at(tree / "a").super_options


@behaviour("mount.fsconfig.flag-with-value-einval", subject="impl")
def test_flag_with_a_value(refusal: Refusal, seen: Seen) -> None:
    """FSCONFIG_SET_FLAG takes neither a value nor a number; without both it is taken."""
    with context_of() as fd:
        answers = [
            refusal(calls.fsconfig, fd, FsConfig.SET_FLAG, "ro", "1"),
            refusal(calls.fsconfig, fd, FsConfig.SET_FLAG, "ro", None, 1),
            refusal(calls.fsconfig, fd, FsConfig.SET_FLAG, "ro"),
        ]
    assert seen(answers) == ["EINVAL", "EINVAL", "no error"]


@behaviour("mount.fsconfig.unknown-command-eopnotsupp", subject="impl")
def test_unknown_command(seen: Seen) -> None:
    """A command that is not defined is refused."""
    with context_of() as fd:
        assert seen.errno_of(calls.fsconfig, fd, 99) == errorcode[EOPNOTSUPP]


@behaviour("mount.fsconfig.not-a-context-einval", subject="impl")
def test_not_a_context(tree: Path, seen: Seen) -> None:
    """A descriptor of a file is no context."""
    (tree / "file").touch()
    fd = os.open(tree / "file", os.O_RDONLY)
    assert seen.errno_of(calls.fsconfig, fd, FsConfig.SET_FLAG, "ro") == "EINVAL"
    os.close(fd)


@behaviour("mount.fsconfig.bad-fd-ebadf", subject="impl")
def test_closed_descriptor(seen: Seen) -> None:
    """A number that is no open descriptor is refused."""
    with context_of() as fd:
        pass
    assert seen.errno_of(calls.fsconfig, fd, FsConfig.SET_FLAG, "ro") == "EBADF"


@behaviour("mount.fsconfig.source-once", subject="impl")
def test_source_twice(refusal: Refusal, seen: Seen) -> None:
    """The source can be set once."""
    with context_of() as fd:
        answers = [refusal(calls.fsconfig, fd, FsConfig.SET_STRING, "source", name) for name in ("one", "two")]
    with mount.FsContext("tmpfs", source="one") as context:
        assert refusal(context.set_string, "source", "two") == "EINVAL"
    assert seen(answers) == ["no error", "EINVAL"]


@behaviour("mount.fsconfig.source-as-path-einval", subject="impl")
def test_source_as_a_path(refusal: Refusal, seen: Seen) -> None:
    """The source is a text, and no path that the kernel looks up."""
    with mount.FsContext("tmpfs") as context:
        assert refusal(context.set_path, "source", "/") == "EINVAL"
    with context_of() as fd:
        assert seen.errno_of(calls.fsconfig, fd, FsConfig.SET_PATH, "source", "/", calls.AT_FDCWD) == "EINVAL"


@behaviour("mount.fsconfig.create-twice-ebusy", subject="impl")
def test_create_twice(refusal: Refusal, seen: Seen) -> None:
    """A context creates one superblock."""
    with context_of() as fd:
        answers = [refusal(calls.fsconfig, fd, FsConfig.CMD_CREATE) for _ in range(2)]
    assert seen(answers) == ["no error", "EBUSY"]


@behaviour("mount.fsconfig.failed-create-blocks", subject="impl")
def test_after_a_failed_create(refusal: Refusal, seen: Seen) -> None:
    """After a creation that failed the context takes no more settings, while its messages can be read."""
    with context_of("overlay") as fd:
        failed = refusal(calls.fsconfig, fd, FsConfig.CMD_CREATE)
        answers = [
            refusal(calls.fsconfig, fd, FsConfig.SET_FLAG, "ro"),
            refusal(calls.fsconfig, fd, FsConfig.CMD_CREATE),
        ]
        try:
            os.read(fd, 1000)
        except OSError as error:
            # Without a message that is the answer of a queue that can be read.
            assert errorcode[error.errno or 0] == "ENODATA"  # noqa: PT017
    assert failed not in ("no error", "EBUSY")
    assert seen(answers) == ["EBUSY", "EBUSY"]


@behaviour("mount.fsconfig.reconfigure-before-create-ebusy", subject="impl")
def test_reconfigure_before_create(refusal: Refusal, seen: Seen) -> None:
    """What is not created can't be reconfigured."""
    with mount.FsContext("tmpfs") as context:
        assert refusal(context.reconfigure) == "EBUSY"
    with context_of() as fd:
        assert seen.errno_of(calls.fsconfig, fd, FsConfig.CMD_RECONFIGURE) == "EBUSY"


@behaviour("mount.fsconfig.create-excl-reused-ebusy", subject="impl")
def test_create_exclusively(refusal: Refusal, seen: Seen) -> None:
    """FSCONFIG_CMD_CREATE_EXCL is refused for sysfs, which exists, and not for tmpfs."""
    with mount.FsContext("sysfs") as context:
        assert refusal(context.create, exclusive=True) == "EBUSY"
    answers = []
    for fstype in ("sysfs", "tmpfs"):
        with context_of(fstype) as fd:
            answers.append(refusal(calls.fsconfig, fd, FsConfig.CMD_CREATE_EXCL))
    assert seen(answers) == ["EBUSY", "no error"]


@behaviour("mount.fsconfig.parameters-late", subject="impl")
def test_parameters_act_at_the_command(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A new size acts when the filesystem is reconfigured, not when it is set."""
    mount.mount("x", tree / "a", "tmpfs", "size=64k")
    sizes = []
    with mount.FsContext.pick(tree / "a") as context:
        context.set_string("size", "128k")
        sizes.append(os.statvfs(tree / "a").f_blocks * os.statvfs(tree / "a").f_frsize)
        context.reconfigure()
        sizes.append(os.statvfs(tree / "a").f_blocks * os.statvfs(tree / "a").f_frsize)
    assert seen(sizes) == [65536, 131072]
    assert "size=128k" in line_at(tree / "a").super_options


@behaviour("mount.fsmount.twice-ebusy", subject="impl")
def test_fsmount_twice(refusal: Refusal, seen: Seen) -> None:
    """A context is mounted once."""
    with context_of() as fd:
        calls.fsconfig(fd, FsConfig.CMD_CREATE)
        os.close(calls.fsmount(fd))
        assert seen.errno_of(calls.fsmount, fd) == "EBUSY"
    with mount.FsContext("tmpfs") as context:
        context.create().mount().close()
        assert refusal(context.mount) == "EBUSY"


@behaviour("mount.fsmount.bad-attr-einval", subject="impl")
def test_bad_attributes(seen: Seen, refusal: Refusal) -> None:
    """An attribute that is not defined is refused, and MOUNT_ATTR_IDMAP too."""
    answers = []
    for attributes in (0x40000000, MountAttribute.IDMAP, MountAttribute.NODEV):
        with context_of() as fd:
            calls.fsconfig(fd, FsConfig.CMD_CREATE)
            answers.append(refusal(calls.fsmount, fd, attributes=attributes))
    assert seen(answers) == ["EINVAL", "EINVAL", "no error"]


@behaviour("mount.fsmount.detached-usable", subject="impl")
def test_detached_mount_can_be_used(tree: Path, seen: Seen) -> None:
    """A file is made in a mount that is attached nowhere, and is there when it is attached."""
    with mount.FsContext("tmpfs") as context, context.create().mount() as made:
        fd = made.open("file", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"early")
        os.close(fd)
        made.attach(tree / "a")
    assert seen((tree / "a/file").read_text()) == "early"


@behaviour("mount.fsmount.detached-not-listed", subject="impl")
def test_detached_mount_is_not_listed(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A mount is in the table when it is attached, and not before."""
    with mount.FsContext("tmpfs", source="secret") as context, context.create().mount() as made:
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            assert seen([line for line in file if " secret " in line]) == []
        made.attach(tree / "a")
    assert line_at(tree / "a").source == "secret"


@behaviour("mount.fsmount.close-keeps-open-files", subject="impl")
def test_open_file_outlives_the_mount(seen: Seen) -> None:
    """A file that is open on a mount that was never attached can be used after the mount's descriptor is closed."""
    with mount.FsContext("tmpfs") as context, context.create().mount() as made:
        fd = made.open("file", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"still here")
    assert seen(os.pread(fd, 100, 0)) == b"still here"
    os.close(fd)


@behaviour("mount.fsopen.short-buffer-consumes", subject="impl")
def test_short_buffer_loses_the_message(refusal: Refusal, seen: Seen) -> None:
    """A message that did not fit is gone."""
    with context_of() as fd:
        assert refusal(calls.fsconfig, fd, FsConfig.SET_STRING, "frobnicate", "1") == "EINVAL"
        assert refusal(os.read, fd, 4) == "EMSGSIZE"
        assert seen.errno_of(os.read, fd, 1000) == "ENODATA"


@behaviour("mount.fsconfig.create-ro-mismatch-ebusy", subject="impl")
def test_create_with_other_flags(tree: Path, line_at: LineAt, refusal: Refusal, seen: Seen) -> None:
    """A superblock that exists read-write is not created read-only."""
    answers = []
    with mount.FsContext("sysfs") as context:
        context.set_flag("rw")
        answers.append(refusal(context.create))
        context.mount().attach(tree / "a")
    assert "rw" in line_at(tree / "a").super_options
    with mount.FsContext("sysfs") as context:
        context.set_flag("ro")
        answers.append(refusal(context.create))
    assert answers[0] == "no error"
    assert seen(answers[1]) == "EBUSY"


@behaviour("mount.fsmount.before-create-ebusy", subject="impl")
def test_fsmount_before_create(refusal: Refusal, seen: Seen) -> None:
    """What is not created can't be mounted."""
    with mount.FsContext("tmpfs") as context:
        assert refusal(context.mount) != "no error"
    with context_of() as fd:
        assert seen.errno_of(calls.fsmount, fd) == "EBUSY"
