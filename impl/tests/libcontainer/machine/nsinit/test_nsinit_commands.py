"""The command line as engines call it, with whole containers: status, pid files, output, exit statuses."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from kernelproof.impl.libcontainer.config.records import Config
from kernelproof.impl.tests.libcontainer.machine.nsinit.command import NSINIT, run_in

pytestmark = pytest.mark.machine(profile="runtimes")

FIXTURES = Path(__file__).parents[5] / "fixtures/libcontainer/legacy"
APPLETS = ("true", "sh", "sleep", "cat", "hostname", "tty", "readlink", "grep")


class Command(NamedTuple):
    """nsinit with a directory of states of its own, in a bundle."""

    bundle: Path

    def __call__(self, *words: str, front: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a subcommand; what it prints goes to files, as the container's process inherits them.

        `front` is a shell's words before it, in the same process.
        """
        command = [*NSINIT, "--root", str(self.bundle / "states"), *words]
        if front:
            command = ["/bin/sh", "-c", f'{front} exec "$@"', "sh", *command]
        return run_in(self.bundle, command, env)

    def status(self, name: str) -> str:
        """The status that `state` prints."""
        return str(json.loads(self("state", name).stdout)["status"])

    def configure(self, *args: str, **process: object) -> None:
        """Writes config.json for a program."""
        (self.bundle / "config.json").write_text(Config.minimal("rootfs", args, **process).dump())


@pytest.fixture
def nsinit(bundle: Command, hierarchy: Callable[..., Path]) -> Command:
    """The command in a bundle, on a machine with version 2 of cgroups."""
    hierarchy("v2")
    return bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Command:
    """The command in a bundle whose root holds busybox."""
    busybox = shutil.which("busybox")
    assert busybox is not None, "the profile has it"
    for name in ("bin", "proc", "dev", "sys", "etc"):
        (tmp_path / "rootfs" / name).mkdir(parents=True)
    shutil.copy(busybox, tmp_path / "rootfs/bin/busybox")
    for name in APPLETS:
        (tmp_path / "rootfs/bin" / name).symlink_to("busybox")
    return Command(tmp_path)


def test_the_life_that_engines_lead(nsinit: Command) -> None:
    """create, start, delete --force twice: each with its status and pid file, and nothing is left."""
    nsinit.configure("sleep", "1000")
    mounts = Path("/proc/self/mountinfo").read_text()
    assert nsinit("create", "--bundle", ".", "--pid-file", "pid", "box").returncode == 0
    pid = (nsinit.bundle / "pid").read_text()
    assert pid.isdigit()
    assert nsinit.status("box") == "created"
    assert nsinit("start", "box").returncode == 0
    assert Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    for _ in range(2):
        assert nsinit("delete", "--force", "box").returncode == 0
    assert list((nsinit.bundle / "states").iterdir()) == []
    assert Path("/proc/self/mountinfo").read_text() == mounts


def test_another_process_and_a_pause(nsinit: Command) -> None:
    """exec ends as its program did; pause stops the container, and its status says so."""
    nsinit.configure("sleep", "1000")
    assert nsinit("run", "--detach", "box").returncode == 0
    assert nsinit("exec", "box", "sh", "-c", "exit 3").returncode == 3
    assert nsinit("pause", "box").returncode == 0
    assert nsinit.status("box") == "paused"
    assert nsinit("delete", "--force", "box").returncode == 0


def test_exec_makes_no_directory(nsinit: Command) -> None:
    """A working directory that the container does not have is an error, not a directory that nobody asked for."""
    nsinit.configure("sleep", "1000")
    assert nsinit("run", "--detach", "box").returncode == 0
    done = nsinit("exec", "--cwd", "/tpyo/x", "box", "true")
    assert done.returncode == 255
    assert done.stderr == "nsinit: final: EnterDirectory /tpyo/x: no such file or directory (ENOENT)\n"
    assert not (nsinit.bundle / "rootfs/tpyo").exists()
    assert nsinit("delete", "--force", "box").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=["TERM", "HUP", "INT"])
def test_a_call_that_is_ended_takes_back_what_it_began(nsinit: Command, number: signal.Signals) -> None:
    """While a hook runs a signal ends the call as 128 + N; no state and no cgroup is left, and the name is free."""
    nsinit.configure("true")
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo > {nsinit.bundle}/begun; exec sleep 1000"]}
    config = json.loads((nsinit.bundle / "config.json").read_text())
    (nsinit.bundle / "config.json").write_text(json.dumps({**config, "hooks": {"createRuntime": [hook]}}))
    os.mkfifo(nsinit.bundle / "begun")
    cgroups = set(Path("/sys/fs/cgroup").rglob("*"))
    words = [*NSINIT, "--root", str(nsinit.bundle / "states"), "run", "box"]
    with subprocess.Popen(words, cwd=nsinit.bundle, stderr=subprocess.PIPE, text=True) as call:
        (nsinit.bundle / "begun").read_text()
        call.send_signal(number)
        assert call.wait() == 128 + number
    assert list((nsinit.bundle / "states").iterdir()) == []
    assert set(Path("/sys/fs/cgroup").rglob("*")) <= cgroups
    nsinit.configure("true")
    assert nsinit("run", "box").returncode == 0


def test_steps_are_recorded(nsinit: Command) -> None:
    """With --debug each operation of the making stands in the log, in its order."""
    nsinit.configure("true")
    assert nsinit("--debug", "--log", "log", "run", "box").returncode == 0
    text = (nsinit.bundle / "log").read_text()
    places = [text.index(words) for words in ("debug: host: ", "debug: init: ", "debug: root: find true")]
    assert places == sorted(places)


def test_run_ends_as_the_program_did(nsinit: Command) -> None:
    """Output and exit status are the program's; 128 + N if a signal killed it; the container is gone."""
    nsinit.configure("sh", "-c", "echo inside; exit 7")
    done = nsinit("run", "box")
    assert (done.returncode, done.stdout, done.stderr) == (7, "inside\n", "")
    nsinit.configure("sh", "-c", "kill -9 $$")
    assert nsinit("run", "box").returncode in (0, 137)  # pid 1 of a PID namespace does not get its own SIGKILL
    assert nsinit("list", "--quiet").stdout == ""


@pytest.mark.parametrize(
    ("program", "said"),
    [("nosuch", "executable file not found"), ("/nosuch", "no such file or directory"), ("/etc", "permission denied")],
)
def test_engines_read_why_a_program_cannot_start(nsinit: Command, program: str, said: str) -> None:
    """create says it in the words from which podman makes 127 and 126; the last record of the log is it."""
    nsinit.configure(program)
    done = nsinit("--log", "log", "--log-format=json", "create", "box")
    assert done.returncode == 1
    assert said in done.stderr
    last = json.loads((nsinit.bundle / "log").read_text().splitlines()[-1])
    assert (last["level"], said in last["msg"]) == ("error", True)
    assert list((nsinit.bundle / "states").iterdir()) == []


def test_a_terminal_goes_to_the_socket(nsinit: Command) -> None:
    """With --console-socket, create sends the terminal's master, and the program finds a terminal of its own."""
    nsinit.configure("tty", terminal=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(nsinit.bundle / "console"))
        listener.listen()
        assert nsinit("create", "--console-socket", "console", "box").returncode == 0
        connection, _ = listener.accept()
        with connection:
            _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
    assert nsinit("start", "box").returncode == 0
    with open(descriptors[0], "rb", buffering=0) as master:
        assert master.read(100) == b"/dev/pts/0\r\n"
    assert nsinit("delete", "--force", "box").returncode == 0


SHOW = "echo $LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES; for fd in /proc/self/fd/*; do readlink $fd; done | grep /etc"


def test_sockets_go_to_the_program(nsinit: Command) -> None:
    """What LISTEN_FDS counts is the program's with its own pid; with --preserve-fds more; no other descriptor is."""
    opened = "exec 3</etc/passwd 4</etc/group 5</etc/fstab 6</etc/hosts;"
    given = f"{opened} LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=a:b"
    nsinit.configure("sh", "-c", SHOW)
    assert nsinit("run", "box", front=given).stdout.split() == ["2", "1", "a:b", "/etc/passwd", "/etc/group"]
    told = nsinit("run", "--preserve-fds", "1", "box", front=given).stdout.split()
    assert told == ["2", "1", "a:b", "/etc/passwd", "/etc/group", "/etc/fstab"]
    # Meant for another process, or none: nothing comes through.
    assert nsinit("run", "box", front=f"{opened} LISTEN_FDS=2 LISTEN_PID=1").stdout.split() == []


def test_descriptors_that_are_kept(nsinit: Command) -> None:
    """--preserve-fds keeps so many for run and exec; one that is not open is an error: none of nsinit's own leaks."""
    opened = "exec 3</etc/passwd 4</etc/group;"
    nsinit.configure("sh", "-c", SHOW)
    assert nsinit("run", "--preserve-fds=1", "box", front=opened).stdout.split() == ["/etc/passwd"]
    done = nsinit("run", "--preserve-fds=3", "box", front=opened)
    assert (done.returncode, "descriptor 5 of 3" in done.stderr) == (1, True)
    nsinit.configure("sleep", "1000")
    assert nsinit("run", "--detach", "box").returncode == 0
    told = nsinit("exec", "--preserve-fds=2", "box", "sh", "-c", SHOW, front=opened)
    assert told.stdout.split() == ["/etc/passwd", "/etc/group"]
    assert nsinit("exec", "--preserve-fds=3", "box", "true", front=opened).returncode == 255
    assert nsinit("delete", "--force", "box").returncode == 0


def test_limits_are_changed_and_kept(nsinit: Command) -> None:
    """update changes the container's own copy of its configuration; events print what is measured."""
    nsinit.configure("sleep", "1000")
    assert nsinit("run", "--detach", "box").returncode == 0
    done = nsinit("update", "--pids-limit", "77", "box")
    kept = json.loads((nsinit.bundle / "states/box/config.json").read_text())
    if done.returncode:  # the machine's hierarchies have no such controller
        assert "pids" in done.stderr
    else:
        assert kept["linux"]["resources"]["pids"] == {"limit": 77}
    event = json.loads(nsinit("events", "--stats", "box").stdout or "null")
    assert event is None or (event["type"], event["id"]) == ("stats", "box")
    assert nsinit("delete", "--force", "box").returncode == 0


@pytest.mark.parametrize("mounted", [("v2",), ("v1", "devices"), ("v1", "devices", "freezer")])
def test_who_is_in_a_cgroup_below_is_the_containers(
    bundle: Command, hierarchy: Callable[..., Path], mounted: tuple[str, ...]
) -> None:
    """ps lists it, and kill --all signals it, with a freezer and without."""
    version, *controllers = mounted
    tops = [hierarchy(version, name) for name in controllers] or [hierarchy(version)]
    bundle.configure("sleep", "1000")
    assert bundle("run", "--detach", "--pid-file", "pid0", "box").returncode == 0
    for number in (1, 2):
        assert bundle("exec", "--detach", "--pid-file", f"pid{number}", "box", "sleep", "1000").returncode == 0
    first, *pids = [int((bundle.bundle / f"pid{number}").read_text()) for number in range(3)]
    for top in tops:
        (top / "box/below").mkdir()
        (top / "box/below/cgroup.procs").write_text(str(pids[1]))
    assert json.loads(bundle("ps", "--format", "json", "box").stdout) == sorted([first, *pids])
    descriptors = [os.pidfd_open(pid) for pid in pids]
    assert bundle("kill", "--all", "box", "TERM").returncode == 0
    for descriptor in descriptors:
        assert select.select([descriptor], [], [], 30)[0], "it got no signal"
        os.close(descriptor)
    assert bundle.status("box") == "running"
    assert bundle("delete", "--force", "box").returncode == 0
    assert not any((top / "box").exists() for top in tops)


@pytest.mark.parametrize("version", ["v2", "v1"])
def test_what_the_runtime_is_bound_to_is_not_the_containers(
    bundle: Command, hierarchy: Callable[..., Path], version: str
) -> None:
    """A container has the CPUs of its cpuset, also by a runtime on one; exec too, unless it is to begin on some."""
    if version == "v2":
        hierarchy("v2", "cpuset")
    else:
        hierarchy("v1", "cpuset")
        hierarchy("v1", "devices")
    bound = "taskset -p 1 $$ >&2;"
    allowed = ("grep", "Cpus_allowed_list", "/proc/self/status")
    for cpus, expected in (("0-1", "0-1"), ("1", "1")):
        bundle.configure(*allowed)
        config = json.loads((bundle.bundle / "config.json").read_text())
        config["linux"] |= {"cgroupsPath": "/box", "resources": {"cpu": {"cpus": cpus}}}
        (bundle.bundle / "config.json").write_text(json.dumps(config))
        assert bundle("run", "box", front=bound).stdout.split()[1:] == [expected]
        config["process"]["args"] = ["sleep", "1000"]
        (bundle.bundle / "config.json").write_text(json.dumps(config))
        assert bundle("run", "--detach", "box", front=bound).returncode == 0
        assert bundle("exec", "box", *allowed, front=bound).stdout.split()[1:] == [expected]
        if cpus == "0-1":
            process = config["process"] | {"args": allowed, "execCPUAffinity": {"final": "1"}}
            (bundle.bundle / "process.json").write_text(json.dumps(process))
            assert bundle("exec", "-p", "process.json", "box", front=bound).stdout.split()[1:] == ["1"]
        assert bundle("delete", "--force", "box").returncode == 0


MIB = 1 << 20
SUMS = [
    (("--memory-swap", str(200 * MIB)), (100, 200)),
    (("--memory", str(50 * MIB)), (50, 200)),
    (("--memory", "-1"), (None, None)),
    (("--memory", str(60 * MIB), "--memory-swap", str(90 * MIB)), (60, 90)),
]


def check_sums(nsinit: Command, read_limits: Callable[[], tuple[int | None, int | None]]) -> None:
    """Changes memory and swap in turn, and looks at what the kernel has, in MiB and as a sum."""
    nsinit.configure("sleep", "1000")
    config = json.loads((nsinit.bundle / "config.json").read_text())
    config["linux"] |= {"cgroupsPath": "/box", "resources": {"memory": {"limit": 100 * MIB, "swap": 150 * MIB}}}
    (nsinit.bundle / "config.json").write_text(json.dumps(config))
    made = nsinit("run", "--detach", "box")
    assert made.returncode == 0, made.stderr
    assert read_limits() == (100, 150)
    for words, expected in SUMS:
        done = nsinit("update", *words, "box")
        assert (done.returncode, done.stderr, read_limits()) == (0, "", expected)
        low = nsinit("update", "--memory-swap", str(40 * MIB), "box")
        assert (low.returncode, read_limits()) == (1, expected)
        assert "memory and swap together" in low.stderr
        assert nsinit("exec", "box", "true").returncode == 0
    assert nsinit("delete", "--force", "box").returncode == 0


def test_memory_and_swap_are_changed_as_a_sum(bundle: Command, hierarchy: Callable[..., Path]) -> None:
    """What version 2 has of swap follows from what is set of memory; a sum below its part changes nothing."""
    top = hierarchy("v2")

    def read_limits() -> tuple[int | None, int | None]:
        memory, swap = [(top / "box" / f"memory.{name}").read_text().strip() for name in ("max", "swap.max")]
        whole = None if memory == "max" else int(memory) // MIB
        return whole, None if swap == "max" else (whole or 0) + int(swap) // MIB

    check_sums(bundle, read_limits)


def test_memory_and_swap_of_version_1_are_changed_as_a_sum(bundle: Command, hierarchy: Callable[..., Path]) -> None:
    """Likewise where the kernel has the sum itself."""
    top = hierarchy("v1", "memory")

    def read_limits() -> tuple[int | None, int | None]:
        found = [int((top / "box" / f"memory.{name}limit_in_bytes").read_text()) // MIB for name in ("", "memsw.")]
        memory, both = [None if value > 1 << 40 else value for value in found]
        return memory, both

    check_sums(bundle, read_limits)


def test_exec_of_2014_runs_by_container_json(nsinit: Command) -> None:
    """With data_path, exec runs a program by container.json in the working directory; it has the file's host name."""
    value = json.loads((FIXTURES / "d.json").read_text())
    value |= {"tty": False, "networks": [{"type": "loopback", "mtu": 1500}], "routes": []}
    (nsinit.bundle / "data").mkdir()
    (nsinit.bundle / "data/container.json").write_text(json.dumps(value))
    inside = Command(nsinit.bundle)._replace(bundle=nsinit.bundle / "rootfs")
    done = inside("exec", "sh", "-c", "hostname; exit 5", data_path=str(nsinit.bundle / "data"))
    assert (done.returncode, done.stdout) == (5, "koye\n")
    assert sorted(path.name for path in (nsinit.bundle / "data").iterdir()) == ["container.json"]


def test_the_interpreter_can_not_be_overwritten(nsinit: Command, tmp_path: Path) -> None:
    """What a waiting container's process runs from is a read-only mount of no namespace, or sealed memory."""
    nsinit.configure("true")
    assert nsinit("create", "--pid-file", str(tmp_path / "pid"), "box").returncode == 0
    exe = f"/proc/{(tmp_path / 'pid').read_text()}/exe"
    name = os.readlink(exe)
    assert os.access(sys.executable, os.W_OK), "the interpreter itself is writable here, so the test says something"
    if name == "/":
        assert os.statvfs(exe).f_flag & os.ST_RDONLY
        assert not os.access(exe, os.W_OK)
        with pytest.raises(OSError, match="Read-only file system"):
            os.utime(exe)
    else:
        assert name.startswith("/memfd:interpreter"), "neither on a mount of its own nor in memory"
    with pytest.raises(OSError, match=r"Text file busy|Read-only|not permitted"):
        os.open(exe, os.O_WRONLY)
    assert nsinit("delete", "--force", "box").returncode == 0
