"""Filters, Landlock and labels in force for a program, on a real kernel."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof.impl._syscalls import seccomp as calls
from kernelproof.impl.libcontainer.config.own import Landlock, LandlockPath
from kernelproof.impl.libcontainer.config.records import (
    Capabilities,
    Linux,
    Personality,
    Process,
    Seccomp,
    SeccompArgument,
    SeccompRule,
    User,
)
from kernelproof.impl.libcontainer.facts import read_host
from kernelproof.impl.libcontainer.operations import Site
from kernelproof.impl.libcontainer.security.architectures import native_architecture
from kernelproof.impl.libcontainer.security.bpf import Call, run
from kernelproof.impl.libcontainer.security.filtering import ConnectListener, FilterCalls
from kernelproof.impl.libcontainer.security.kernel_actions import read_actions, read_logged, write_logged
from kernelproof.impl.libcontainer.security.landlock import read_abi
from kernelproof.impl.libcontainer.security.planning import Container, plan_security
from kernelproof.impl.libcontainer.security.seccomp import compile_seccomp
from kernelproof.impl.tests.libcontainer.machine.shaped import STATUS, shaped

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.machine

ALLOWED = "SCMP_ACT_ALLOW"
NOTHING = Capabilities()
PYTHON = "/usr/bin/python3"
TRY_MKDIR = (
    PYTHON,
    "-ISc",
    "import os\ntry:\n os.mkdir('/tmp/kp-made')\n print('made')\nexcept OSError as error:\n print(error.errno)",
)


def deny(*names: str, action: str = "SCMP_ACT_ERRNO", **how: object) -> Linux:
    """A filter that only refuses some calls."""
    rule = SeccompRule(names, action, **how)  # type: ignore[arg-type]
    return Linux(seccomp=Seccomp(ALLOWED, syscalls=(rule,)))


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_filter_is_in_force(no_new_privileges: bool) -> None:
    """With no_new_privs and without, and without any capability, the program has the filter and its errno."""
    how = Process("/", STATUS, no_new_privileges=no_new_privileges, capabilities=NOTHING, user=User(1000, 1000))
    ended = shaped(how, linux=deny("mkdir", errno_ret=errno.EXDEV))
    assert ended.code == 0, ended.output
    assert (ended.status("Seccomp"), ended.mask("CapPrm"), ended.mask("CapBnd")) == ("2", 0, 0)
    assert ended.status("NoNewPrivs") == str(int(no_new_privileges))
    tried = shaped(how.replace(args=TRY_MKDIR), linux=deny("mkdir", "mkdirat", errno_ret=errno.EXDEV))
    assert tried.output == f"{errno.EXDEV}\n"


def test_filter_that_allows_next_to_nothing_still_starts_the_program() -> None:
    """A filter without capset, prctl, setuid, sendmsg or openat lets the program begin: all of that is done before."""
    needed = (
        "execve",
        "brk",
        "mmap",
        "arch_prctl",
        "write",
        "exit_group",
        "exit",
        "munmap",
        "mprotect",
        "read",
        "close",
    )
    libraries = ("access", "openat", "fstat", "newfstatat", "pread64", "set_tid_address", "set_robust_list", "rseq")
    more = ("prlimit64", "getrandom", "readlink", "readlinkat", "futex", "uname", "getuid", "statx")
    rule = SeccompRule((*needed, *libraries, *more), ALLOWED)
    policy = Linux(seccomp=Seccomp("SCMP_ACT_KILL_PROCESS", syscalls=(rule,)))
    ended = shaped(Process("/", ("/usr/bin/true",), no_new_privileges=True, user=User(1000, 1000)), linux=policy)
    assert (ended.code, ended.output) == (0, "")


def test_killed_by_the_filter() -> None:
    """A call whose action is to kill ends the program by SIGSYS."""
    ended = shaped(Process("/", TRY_MKDIR), linux=deny("mkdir", "mkdirat", action="SCMP_ACT_KILL_PROCESS"))
    assert ended.code == -signal.SIGSYS


@pytest.mark.rule("K16")
def test_domain_is_set_before_the_filter() -> None:
    """A filter that refuses personality(2) does not stop the configured execution domain."""
    linux = deny("personality").replace(personality=Personality("LINUX32"))
    ended = shaped(Process("/", ("/usr/bin/uname", "-m"), no_new_privileges=True), linux=linux)
    assert (ended.output, ended.code) == ("i686\n", 0)


def test_kernel_runs_the_program_as_the_interpreter_does() -> None:
    """For random arguments the kernel's answer is the one that this package's interpreter gives."""
    numbers = native_architecture().numbers()
    name = "getpriority"
    chance = random.Random(7)
    arguments = [(chance.getrandbits(64), chance.randint(0, 3)) for _ in range(64)] + [
        (0x1010, 3),
        (1 << 63 | 0x1010, 3),
    ]
    first = SeccompArgument(0, arguments[0][0], "SCMP_CMP_GT")
    second = SeccompArgument(1, 2, "SCMP_CMP_LE")
    third = SeccompArgument(0, 0xF0F0, "SCMP_CMP_MASKED_EQ", 0x1010)
    rules = (
        SeccompRule((name,), "SCMP_ACT_ERRNO", 5, (first, second)),
        SeccompRule((name,), "SCMP_ACT_ERRNO", 6, (third,)),
    )
    program = compile_seccomp(
        Seccomp("SCMP_ACT_ALLOW", flags=(), syscalls=(*rules, SeccompRule((name,), "SCMP_ACT_ERRNO", 7)))
    )
    expected = [
        run(program.words, Call(native_architecture().audit, numbers[name], each))[0] & 0xFFFF for each in arguments
    ]
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        import ctypes  # to call with 64-bit arguments, which no wrapper of this name takes

        call = ctypes.CDLL(None, use_errno=True).syscall
        calls.set_filter(program.words)
        seen = bytearray()
        for each in arguments:
            assert call(numbers[name], *(ctypes.c_ulong(value) for value in each)) == -1
            seen.append(ctypes.get_errno())
        os.write(writer, bytes(seen))
        os._exit(0)
    os.waitpid(pid, 0)
    assert list(os.read(reader, 100)) == expected
    assert len(set(expected)) == 3


class Agent:
    """Listens for a filter's listener."""

    def __init__(self, path: Path) -> None:
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        self.server.settimeout(20)

    def receive(self) -> tuple[dict[str, object], int, bytes]:
        """The document, the listener, and what came after."""
        connection, _ = self.server.accept()
        with connection:
            data, fds, _, _ = socket.recv_fds(connection, 1 << 16, 4)
            assert len(fds) == 1
            return json.loads(data), fds[0], connection.recv(100)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """An agent at `agent` below the test's directory."""
    made = Agent(tmp_path / "agent")
    yield made
    made.server.close()


def test_listener_goes_to_the_agent(agent: Agent, tmp_path: Path) -> None:
    """The agent gets one message with the container's state and the listener; the call gives what it answers."""
    rule = SeccompRule(("mkdir", "mkdirat"), "SCMP_ACT_NOTIFY")
    policy = Seccomp(ALLOWED, listener_path=str(tmp_path / "agent"), listener_metadata="a=b", syscalls=(rule,))
    helper = os.fork()
    if helper == 0:
        how = Process("/", TRY_MKDIR, no_new_privileges=True)
        ended = shaped(how, linux=Linux(seccomp=policy), container=Container("kp", "/bundle", new_keyring=False))
        os._exit(0 if ended.output == f"{errno.EMFILE}\n" else 1)
    document, listener, rest = agent.receive()
    note = calls.receive(listener)
    calls.respond(listener, note.id, error=-errno.EMFILE)
    _, status = os.waitpid(helper, 0)
    assert (document["fds"], document["metadata"], rest) == (["seccompFd"], "a=b", b"")
    assert document["pid"] == note.pid
    state = document["state"]
    assert isinstance(state, dict)
    assert (state["id"], state["bundle"], state["status"], state["pid"]) == ("kp", "/bundle", "created", note.pid)
    assert os.waitstatus_to_exitcode(status) == 0


def test_nobody_at_the_listeners_path(tmp_path: Path) -> None:
    """A path where nobody listens is an error of the start that names it."""
    with pytest.raises(FileNotFoundError, match="absent"):
        ConnectListener(str(tmp_path / "absent")).do(Site())


def test_filter_that_notifies_without_an_agent() -> None:
    """A filter with a listener that nobody is connected for is refused before it is loaded."""
    with pytest.raises(LookupError, match="ConnectListener comes first"):
        FilterCalls(8, False, "", (), b"\x06\0\0\0\0\0\xff\x7f").do(Site())


# --- Landlock ---


@pytest.fixture
def abi() -> int:
    """The version of Landlock that is here."""
    version = read_abi()
    if not version:
        pytest.skip("this kernel has no Landlock, or it is off")
    return version


EVERYTHING = ("execute", "read_file", "read_dir")


def reading(*paths: str, abi: int = 1, strict: bool = True, **how: object) -> Landlock:
    """A policy that lets read and execute below the system's folders and some paths."""
    system = tuple(LandlockPath(path, EVERYTHING) for path in ("/usr", "/lib", "/lib64", "/proc", "/etc", *paths))
    there = tuple(each for each in system if os.path.exists(each.path))
    return Landlock(abi, strict, paths=there, **how)  # type: ignore[arg-type]


@pytest.mark.rule("K15")
def test_landlock_denies_what_no_path_allows(abi: int, tmp_path: Path) -> None:
    """A file outside every allowed path can't be read, one inside can, also without no_new_privs and capabilities."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "file").write_text("words")
    for path in (tmp_path, *tmp_path.parents):
        path.chmod(0o755 if path != Path("/tmp") else 0o1777)
    for nnp in (True, False):
        how = Process("/", ("/usr/bin/cat", str(inside / "file"), str(outside / "file")), no_new_privileges=nnp)
        ended = shaped(how.replace(capabilities=NOTHING), landlock=reading(str(inside)))
        assert (ended.output, ended.code) == ("words", 1)


@pytest.mark.rule("K15")
def test_landlock_strict_and_best_effort(abi: int) -> None:
    """What this kernel can't do is an error that says which version it takes; with best effort it is left out."""
    too_new = reading(abi=9, scopes=("signal",))
    how = Process("/", ("/usr/bin/true",), no_new_privileges=True)
    if abi < 9:
        told = json.loads(shaped(how, landlock=too_new).output)
        assert told["error"] == "LandlockError"
        assert f"version {abi} is here, and the policy is strict" in told["text"]
    assert shaped(how, landlock=too_new.replace(strict=False)).code == 0


@pytest.mark.rule("K15")
def test_policy_for_an_older_version_is_not_tightened(abi: int, tmp_path: Path) -> None:
    """A policy written for version 1 handles no right that came later: truncating works where writing is allowed."""
    if abi < 3:
        pytest.skip(f"version {abi} has no right to truncate that could be denied")
    file = tmp_path / "file"
    file.write_text("words")
    writing = LandlockPath(str(tmp_path), ("write_file", "read_file"))
    source = f"import os; os.truncate({str(file)!r}, 2)"
    for version, code in ((1, 0), (3, 1)):
        policy = reading(abi=version)
        policy = policy.replace(paths=(*policy.paths, writing))
        assert shaped(Process("/", (PYTHON, "-ISc", source), no_new_privileges=True), landlock=policy).code == code


@pytest.mark.rule("K15")
def test_landlock_comes_after_all_mounts(abi: int) -> None:
    """A program under a policy for files can't mount, and the plan has the policy among its last steps."""
    how = Process("/", ("/usr/bin/mount", "-t", "tmpfs", "none", "/mnt"), no_new_privileges=True)
    ended = shaped(how, landlock=reading())
    assert ended.code != 0
    names = [type(each).__name__ for each in plan_security_of(how, reading())]
    assert names.index("Confine") > max(names.index("ForbidNewPrivileges"), names.index("BecomeUser"))


def plan_security_of(process: Process, landlock: Landlock) -> tuple[object, ...]:
    """The operations of a process under a policy."""
    from kernelproof.impl.libcontainer.config.records import Config

    return plan_security(Config("1.3.0", process=process, landlock=landlock), read_host(), Container())


def test_landlock_ports(abi: int) -> None:
    """With ports handled a listener at an allowed port works, and at another one is refused with EACCES."""
    if abi < 4:
        pytest.skip(f"version {abi} has no rules for TCP")
    source = (
        "import socket\nfor port in (7001, 7002):\n"
        " try:\n  socket.create_server(('127.0.0.1', port)); print(port)\n"
        " except OSError as error:\n  print(error.errno)"
    )
    policy = Landlock(4, handled=(), bind_tcp=(7001,))
    ended = shaped(Process("/", (PYTHON, "-ISc", source), no_new_privileges=True), landlock=policy)
    assert ended.output.split() == ["7001", str(errno.EACCES)]


# --- labels ---


@pytest.fixture
def profile() -> str:
    """The name of an AppArmor profile that is loaded."""
    if "apparmor" not in read_host().security_modules:
        pytest.skip("AppArmor is not on here")
    from kernelproof.impl._syscalls.mount import mount

    folder = Path("/sys/kernel/security")
    if not (folder / "apparmor").exists():
        mount("securityfs", str(folder), "securityfs")
    (folder / "apparmor/.load").write_bytes(compiled_profile())
    return "kp-test"


def compiled_profile() -> bytes:
    """A profile in complain mode as the kernel's policy interface takes it: tagged values, security/apparmor."""

    def text(tag: int, words: str) -> bytes:
        return struct.pack("<BH", tag, len(words) + 1) + words.encode() + b"\0"

    def numbers(*values: int) -> bytes:
        return b"".join(struct.pack("<BI", 2, value) for value in values)

    name, string, begin, end = 4, 5, b"\x07", b"\x08"
    flags = text(name, "flags") + begin + numbers(0, 1, 0) + end  # no hat, complain, no audit
    no_capabilities = numbers(0, 0, 0, 0)
    profile = text(name, "profile") + begin + text(string, "kp-test") + flags + no_capabilities + end
    return text(name, "version") + numbers(5) + profile


def test_apparmor_profile(profile: str) -> None:
    """A loaded profile is the program's own, as /proc tells it."""
    ended = shaped(Process("/", ("/usr/bin/cat", "/proc/self/attr/current"), apparmor_profile=profile))
    assert ended.output.strip("\0\n") == f"{profile} (complain)"


def test_apparmor_unconfined() -> None:
    """The word unconfined is taken where AppArmor is on."""
    ended = shaped(Process("/", ("/usr/bin/cat", "/proc/self/attr/current"), apparmor_profile="unconfined"))
    assert ended.output.strip("\0\n").startswith("unconfined")


def test_logged_actions() -> None:
    """What is logged can be set, none of all too, and the kernel refuses what it never logs."""
    file = Path("/proc/sys/kernel/seccomp/actions_logged")
    assert read_logged() == tuple(file.read_text().split())
    for actions in (("kill_process", "errno"), (), read_actions()[:-1]):
        write_logged(actions)
        assert file.read_text().split() == list(actions)
    for wrong in ("allow", "nothing"):
        with pytest.raises(OSError, match="Invalid argument"):
            write_logged([wrong])
