"""`Call`: what reaches libc, what does not, and the errors."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kernelproof.impl._syscalls import identity, mount, namespaces, resolve, statmount
from kernelproof.impl._syscalls.architecture import UnsupportedPlatformError
from kernelproof.impl._syscalls.libc import BUFFER, BYTES, INT, SECRET, STRING, UINT, Call, flag_names

linux = pytest.mark.skipif(sys.platform != "linux", reason="libc's Linux calls")

# Calls that need no privilege.
_chmod = Call("chmod", path=STRING, mode=UINT)
_link = Call("link", old=STRING, new=STRING)
_getgroups = Call("getgroups", size=INT, groups=BUFFER)


@linux
def test_refusal_is_the_class_that_python_picks(tmp_path: Path) -> None:
    """A missing file is FileNotFoundError, with its errno, its text and the path."""
    missing = tmp_path / "missing"
    with pytest.raises(FileNotFoundError) as caught:
        _chmod(missing, 0o600, path=missing)
    assert type(caught.value) is FileNotFoundError
    assert (caught.value.errno, caught.value.strerror) == (errno.ENOENT, os.strerror(errno.ENOENT))
    assert caught.value.filename == str(missing)
    assert caught.value.__notes__ == [f"chmod(path={str(missing)!r}, mode=384)"]


@linux
def test_both_paths_are_in_the_error(tmp_path: Path) -> None:
    """A call with two paths names both."""
    old, new = tmp_path / "old", tmp_path / "new"
    with pytest.raises(FileNotFoundError) as caught:
        _link(old, new, path=old, path2=new)
    assert (caught.value.filename, caught.value.filename2) == (str(old), str(new))


@linux
def test_error_number_is_this_call_s() -> None:
    """The errno is that of the refused call, not one that an earlier call left behind."""
    with pytest.raises(FileNotFoundError):
        os.stat("/nonexistent")
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        namespaces.setns(-1, namespaces.CloneFlag.NEWNET)
    assert caught.value.errno == errno.EBADF
    assert caught.value.__notes__ == ["setns(fd=-1, nstype=NEWNET)"]


@linux
def test_success_changes_the_world(tmp_path: Path) -> None:
    """What the prototype describes is done: arguments arrive in order and in full."""
    target = tmp_path / "file"
    target.write_bytes(b"")
    _chmod(target, 0o644)
    assert target.stat().st_mode & 0o777 == 0o644
    _link(target, tmp_path / "second")
    assert (tmp_path / "second").stat().st_ino == target.stat().st_ino


@pytest.mark.parametrize(
    ("value", "kind"),
    [(2**32, UINT), (-1, UINT), (2**31, INT), (-(2**31) - 1, INT), (2**64, UINT)],
)
def test_number_too_wide_is_refused(value: int, kind: object) -> None:
    """A number that its C type cannot hold never becomes another number (2**32 would become 0)."""
    call = Call("chmod", path=STRING, mode=kind)  # type: ignore[arg-type]
    with pytest.raises(OverflowError, match=rf"chmod: mode={value} does not fit a C u?int"):
        call("/nonexistent", value)


def test_nul_byte_is_refused(tmp_path: Path) -> None:
    """A path is never cut at a NUL byte."""
    at = len(str(tmp_path))
    with pytest.raises(ValueError, match=rf"chmod: path holds a NUL byte at {at}: b'.*\\x00/x'"):
        _chmod(f"{tmp_path}\0/x", 0)


@pytest.mark.parametrize("value", [7, bytearray(b"/etc"), memoryview(b"/etc")])
def test_wrong_type_for_text_is_refused(value: int | bytearray | memoryview) -> None:
    """A number or a buffer in the place of a path is a TypeError, not an address."""
    with pytest.raises(TypeError, match="path is a"):
        _chmod(value, 0)


def test_wrong_type_for_number_and_buffer_is_refused() -> None:
    """Text in the place of a number, and read-only bytes in the place of a buffer, are TypeErrors."""
    with pytest.raises(TypeError, match="mode is a str"):
        _chmod("/nonexistent", "0644")
    with pytest.raises(TypeError, match="groups is a bytes, not a bytearray"):
        _getgroups(1, b"1234")
    with pytest.raises(TypeError, match="chmod takes 2 arguments, not 1"):
        _chmod("/nonexistent")


@linux
def test_call_by_number_and_by_name_are_the_same_call(tmp_path: Path) -> None:
    """A call by number refuses as the call by name does."""
    by_name = Call("capget", header=BUFFER, data=BUFFER)
    by_number = Call("capget", raw=True, header=BUFFER, data=BUFFER)
    answers = []
    for call in (by_name, by_number):
        header, data = bytearray(b"\x22\x05\x08\x20" + bytes(4)), bytearray(24)
        call(header, data)
        answers.append(bytes(data))
        with pytest.raises(OSError, match="Invalid argument"):
            call(bytearray(8), data)
    assert answers[0] == answers[1]


@linux
def test_call_that_libc_lacks_goes_by_number(tmp_path: Path) -> None:
    """openat2, which glibc 2.41 lacks, opens the file it is told to, close-on-exec."""
    (tmp_path / "file").write_text("text")
    fd = resolve.openat2(-100, tmp_path / "file", os.O_RDONLY)
    try:
        assert os.read(fd, 10) == b"text"
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


@linux
def test_flags_of_a_packed_structure_are_named(tmp_path: Path) -> None:
    """Flags inside a structure are in the note by name."""
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OSError, match="Too many levels") as caught:
        resolve.openat2(-100, tmp_path / "link", os.O_RDONLY, resolve=resolve.ResolveFlag.NO_SYMLINKS)
    assert caught.value.errno == errno.ELOOP
    assert caught.value.__notes__[1] == "how: flags=0o0, mode=0o0, resolve=NO_SYMLINKS"


@pytest.mark.parametrize("number", [-1, 2**64])
def test_field_of_a_structure_is_bounded(number: int) -> None:
    """A number that a field of 64 bits cannot hold is refused before the kernel sees anything."""
    with pytest.raises(OverflowError):
        resolve.openat2(-100, "/", os.O_RDONLY, resolve=number)
    with pytest.raises(OverflowError):
        mount.mount_setattr(-100, "/", attr_set=number)
    with pytest.raises(OverflowError):
        statmount.listmount(number, 1)


@pytest.mark.parametrize("gid", [-1, 2**32])
def test_group_id_is_bounded(gid: int) -> None:
    """A group id that does not fit 32 bits is refused by number."""
    with pytest.raises(OverflowError, match=f"id {gid} does not fit"):
        identity.setgroups([5, gid])
    with pytest.raises(OverflowError, match=f"id {gid} does not fit"):
        identity.setgroups_of_thread([gid])


def test_flag_names() -> None:
    """Flags print by name, unknown bits in hexadecimal, none as 0."""
    assert flag_names(mount.MountFlag, mount.MountFlag.BIND | mount.MountFlag.RDONLY | 1 << 40) == (
        "RDONLY|BIND|0x10000000000"
    )
    assert flag_names(mount.MountFlag, 0) == "0"


def test_negative_flags_are_shown_as_the_bits_the_kernel_sees() -> None:
    """A signed parameter with its highest bit set prints as flags."""
    call = Call("unshare", flags=INT.of(namespaces.CloneFlag))
    assert call.describe(-(2**31)) == "unshare(flags=IO)"


def test_secrets_stay_out_of_notes() -> None:
    """A note shows the keys of a filesystem's data but no password."""
    call = Call("mount", source=STRING, data=SECRET)
    shown = call.describe("//server/share", "user=ada,password=swordfish,vers=3")
    assert "swordfish" not in shown
    assert shown == "mount(source='//server/share', data='user=ada,password=…,vers=3')"


@linux
def test_secret_of_fsconfig_stays_out_of_notes() -> None:
    """fsconfig's note hides the value of an option that sounds like a secret, and only that."""
    for key, visible in (("password", False), ("size", True)):
        with pytest.raises(OSError, match=r".") as caught:
            mount.fsconfig(-1, mount.FsConfig.SET_STRING, key, "swordfish")
        assert ("swordfish" in caught.value.__notes__[0]) is visible
        assert "command=SET_STRING" in caught.value.__notes__[0]


def test_fsconfig_never_reads_past_its_value() -> None:
    """A binary value shorter than the length that is claimed for it is refused."""
    with pytest.raises(ValueError, match="aux=9 is more than the 3 bytes"):
        mount.fsconfig(-1, mount.FsConfig.SET_BINARY, "blob", b"abc", 9)


def test_long_text_is_cut_in_notes() -> None:
    """A note shows at most 256 characters of one argument and says how long it was."""
    shown = Call("chmod", path=STRING).describe("x" * 5000)
    assert len(shown) < 320
    assert shown.endswith("… (5000 in all))")


def test_bytes_that_are_no_text_are_counted() -> None:
    """A structure is shown by its length."""
    assert Call("f", data=BYTES).describe(b"\0\1\2") == "f(data=<3 bytes>)"


def test_not_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on Linux a call says so; importing works."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UnsupportedPlatformError, match="setns exists on Linux only, this is darwin"):
        Call("setns", fd=INT)(0)


def test_nothing_loads_before_it_is_used() -> None:
    """Importing every module of the door loads neither ctypes nor libc."""
    script = (
        "import sys\n"
        "from kernelproof.impl._syscalls import architecture, identity, libc, mount, namespaces, resolve, statmount\n"
        "print('ctypes' in sys.modules, '_ctypes' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False False\n"


@linux
def test_statmount_and_listmount_describe_the_root() -> None:
    """statmount of the first mount listed fills its mount point, absolute and NUL-terminated."""
    try:
        ids = statmount.listmount(statmount.LSMT_ROOT, 4)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        pytest.skip("listmount came with Linux 6.8")
    buffer = bytearray(8192)
    statmount.statmount(ids[0], statmount.StatmountMask.MNT_POINT, buffer)
    assert int.from_bytes(buffer[8:16], sys.byteorder) & statmount.StatmountMask.MNT_POINT
    assert b"/" in buffer[512:]
    with pytest.raises(OSError, match="too large"):
        statmount.statmount(ids[0], statmount.StatmountMask.MNT_POINT, bytearray(16))


@linux
def test_clone3_runs_a_child() -> None:
    """clone3 makes a child whose pidfd and exit status the parent gets."""
    script = (
        "import os\n"
        "from kernelproof.impl._syscalls.namespaces import CloneFlag, clone3\n"
        "child = clone3(CloneFlag.PIDFD)\n"
        "if child.pid == 0: os._exit(7)\n"
        "done = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)\n"
        "print(done.si_pid == child.pid, done.si_status, os.get_inheritable(child.pidfd))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "True 7 False\n"


@linux
def test_clone3_refuses_what_python_cannot_bear(tmp_path: Path) -> None:
    """clone3 refuses to share memory, and to run beside another thread."""
    with pytest.raises(ValueError, match="clone3: VM would share"):
        namespaces.clone3(namespaces.CloneFlag.VM | namespaces.CloneFlag.NEWPID)
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    with pytest.raises(RuntimeError, match="more than one thread"):
        namespaces.clone3(0, tasks=tmp_path)


@linux
def test_getgroups_counts_without_room() -> None:
    """getgroups(0) counts the groups that os.getgroups lists."""
    count, stored = identity.getgroups(0)
    assert (count, stored) == (len(os.getgroups()), ())
    assert identity.getgroups(65536)[1] == tuple(os.getgroups())


@linux
def test_setfsuid_asks_without_changing() -> None:
    """setfsuid with "leave it" returns the file system uid, which is the effective one."""
    assert identity.setfsuid(2**32 - 1) == os.geteuid()
    assert identity.setfsgid(2**32 - 1) == os.getegid()


@linux
def test_setfsgid_gives_the_one_before() -> None:
    """setfsgid returns the file system gid that a call before it set, in that thread alone."""
    wanted = 4242 if os.geteuid() == 0 else os.getegid()
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(identity.setfsgid, wanted).result() == os.getegid()
        assert thread.submit(identity.setfsgid, 2**32 - 1).result() == wanted


@linux
def test_sign_bit_of_flags_is_no_range_error() -> None:
    """CLONE_IO, the sign bit of an int, reaches the kernel, which has no use for it in unshare; a 33rd bit does not."""
    with pytest.raises(OSError, match="Invalid argument"):
        namespaces.unshare(1 << 31)
    with pytest.raises(OverflowError):
        namespaces.unshare(1 << 32)


@linux
def test_attempt_answers_with_the_number(tmp_path: Path) -> None:
    """A probe gets the negative errno and no error; a wrong argument is refused all the same."""
    (tmp_path / "file").touch()
    assert _chmod.attempt(tmp_path / "missing", 0o600) == -errno.ENOENT
    assert _chmod.attempt(tmp_path / "file", 0o600) == 0
    with pytest.raises(OverflowError):
        _chmod.attempt(tmp_path / "file", 2**32)
