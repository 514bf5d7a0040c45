"""Programs, terminals and forwarded ports with real kernels, and the two commands that people use them by."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelproof.vm.errors import MachineLost
from kernelproof.vm.machine import Machine
from kernelproof.vm.template import Template
from kernelproof.vm.tests.pseudoterminal import sit_at

COMMAND = [sys.executable, "-m", "kernelproof.cli"]
SERVE = """
import os, socket, sys
family, address = {"unix": (socket.AF_UNIX, "/run/s"), "vsock": (socket.AF_VSOCK, (1, 1234))}[sys.argv[1]]
with socket.socket(family) as listening:
    listening.bind(address)
    listening.listen()
    if os.fork():
        os._exit(0)  # who waits for this one knows that it listens
    connection, _ = listening.accept()
    with connection, connection.makefile("rb") as data:
        connection.sendall(data.read()[::-1])
"""


@pytest.fixture(scope="module")
def real() -> Iterator[Template]:
    with Template("6.12", time="real") as template:
        yield template


@pytest.fixture
def machine(real: Template) -> Iterator[Machine]:
    with real.clone() as machine:
        yield machine


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work tree with a script, and a file that git ignores; the working directory is below its root."""
    if shutil.which("git") is None:
        pytest.skip("not applicable: no git here")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("build/\n")
    (tmp_path / "build").mkdir()
    (tmp_path / "build/tool").write_text("#!/bin/sh\necho built\n")
    (tmp_path / "build/tool").chmod(0o755)
    (tmp_path / "check").mkdir()
    (tmp_path / "check/data").write_text("data\n")
    monkeypatch.chdir(tmp_path / "check")
    return tmp_path


def go(*words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, "run", "-q", *words], input=given, capture_output=True, timeout=300, check=False)


def test_virtual_time_is_refused(template: Template) -> None:
    """A machine whose clock leaps can't wait for anyone outside, and says so."""
    with template.clone() as virtual, pytest.raises(RuntimeError, match="time is virtual"), virtual.forward_port(80):
        pass


def test_web_server(machine: Machine) -> None:
    """A web server in a machine without a network card answers at a port of the host; the machine goes on after."""
    machine.run(["sh", "-c", "mkdir /srv/w && echo hello > /srv/w/index.html && busybox httpd -p 80 -h /srv/w"])
    with machine.forward_port(80) as (host, port):
        for _ in range(3):
            with urllib.request.urlopen(f"http://{host}:{port}/", timeout=60) as answer:
                assert answer.read() == b"hello\n"
    assert machine.run(["true"]).returncode == 0


@pytest.mark.parametrize(("kind", "target"), [("unix", "/run/s"), ("vsock", "vsock:1234")])
def test_other_families(machine: Machine, kind: str, target: str, tmp_path: Path) -> None:
    """Unix and vsock sockets of the guest are led to as well, here from a unix socket."""
    if kind == "vsock" and machine.run(["modprobe", "vsock_loopback"]).returncode != 0:
        pytest.skip("not applicable: no vsock_loopback in this kernel")
    machine.push(SERVE.encode(), "/srv/serve.py")
    machine.run(["sh", "-c", f"exec python3 /srv/serve.py {kind} >/dev/null 2>&1"])
    with machine.forward_port(target, str(tmp_path / "s")) as (path,):
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, str(path)], input=b"abc", capture_output=True, timeout=60, check=True
        )
    assert done.stdout == b"cba"


CLIENT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    connection.sendall(sys.stdin.buffer.read())
    connection.shutdown(socket.SHUT_WR)
    sys.stdout.buffer.write(connection.makefile("rb").read())
"""


def test_machine_lost_while_forwarding(machine: Machine) -> None:
    """A machine that panics while ports lead into it is told at the end of the block, with its log."""
    machine.run(["sh", "-c", "(sleep 1; echo c > /proc/sysrq-trigger) >/dev/null 2>&1 &"])
    pidfd = machine._running.child.pidfd
    with pytest.raises(MachineLost) as caught, machine.forward_port(80):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    assert caught.value.kind == "panic"
    assert "sysrq" in caught.value.log


def test_shell() -> None:
    """A prompt with line editing, history and job control, the user's window, and the shell's status."""
    with sit_at([*COMMAND, "shell", "--kernel", "6.12", "-q"], rows=33, columns=101) as person:
        before = person.attributes()
        person.read_until(b"# ")
        person.type(b"stty size\n")
        person.read_until(b"33 101\r\n")
        person.resize(40, 120)
        person.read_until(b"# ")
        person.type(b"sh -c 'echo up; exec sleep 1000'\n")
        person.read_until(b"\nup\r\n")  # now it is in the foreground
        person.type(b"\x1a")
        person.read_until(b"^Z")  # what the shell says to it can be lost: termios(3), NOFLSH
        person.type(b"jobs; kill -9 %1; wait; stty size\n")
        person.read_until(b"Stopped")
        person.read_until(b"40 120\r\n")
        person.type(b"echo $((6*7))\n")
        person.read_until(b"42\r\n")
        person.type(b"\x1b[A\n")  # up: the last line again
        person.read_until(b"42\r\n")
        person.type(b"sh -c 'echo on; exec cat'\n")
        person.read_until(b"\non\r\n")
        person.type(b"\x03")
        person.read_until(b"^C")
        person.type(b"exit 5\n")
        assert person.wait() == 5
        assert person.attributes() == before


def test_shell_that_switches_off() -> None:
    """Who switches the machine off from within has ended it well."""
    with sit_at([*COMMAND, "shell", "-q", "--", "busybox", "poweroff", "-f"]) as person:
        assert person.wait() == 0
        assert b"switched off" in person.seen


OPEN = """
import sys
from kernelproof.cli.late_progress import LateProgress
from kernelproof.cli.machines import open_machine
from kernelproof.vm.process import Spawner
from kernelproof.vm.wishes import NO_WISHES

started = []
spawn = Spawner.spawn
Spawner.spawn = lambda *words, **more: (started.append(1), spawn(*words, **more))[1]
with LateProgress() as progress, open_machine("6.12", "plain", NO_WISHES, progress) as machine:
    assert machine.run(["true"]).returncode == 0
print(len(started), "rich" in sys.modules)
"""


@pytest.mark.usefixtures("machine")  # so the template is at hand
def test_machine_at_a_prompt_is_cheap(tmp_path: Path) -> None:
    """With its template at hand it boots nothing, starts one QEMU, and does not load what would draw a bar.

    What it costs: benchmarks/prompt.py.
    """
    done = subprocess.run([sys.executable, "-c", OPEN], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1 False\n", "")


def test_run_has_the_project(project: Path) -> None:
    """The files that git knows or does not ignore are there, in the same place, and can't be written to."""
    script = "pwd; cat data; ls ..; touch data || touch /tmp/elsewhere"
    done = go("--", "sh", "-c", script)
    assert done.stdout.decode().splitlines() == [str(project / "check"), "data", "check"]
    assert b"Read-only file system" in done.stderr
    assert done.returncode == 0


def test_run_writable(project: Path) -> None:
    """With --writable the copy can be written to, and the host's files stay as they are."""
    assert go("--writable", "--", "sh", "-c", "echo changed > data").returncode == 0
    assert (project / "check/data").read_text() == "data\n"


def test_run_takes_the_program_along(project: Path) -> None:
    """A program that is named by its path goes along though git ignores it, and so does what --add names."""
    assert go("--", "../build/tool").stdout == b"built\n"
    assert go("--", "sh", "-c", "ls ..").stdout == b"check\n"
    assert go("--add", "../build", "--", "sh", "-c", "ls ..").stdout == b"build\ncheck\n"


def test_run_with_too_much(project: Path) -> None:
    """More than 64 MiB are refused, with the largest files named."""
    with (project / "large").open("wb") as file:
        file.truncate(65 * 1024 * 1024)
    done = go("--", "true")
    assert done.returncode == 125
    assert b"large (68157440 bytes)" in done.stderr
    assert go("--no-files", "--", "true").returncode == 0


def test_pull(project: Path) -> None:
    """What a program made comes back, also when it fails; links and devices don't, and nothing is written over."""
    script = "mkdir -p /tmp/out/sub; cd /tmp/out; echo r > sub/report; ln -s /etc/passwd link; mkfifo p; exit 3"
    words = ("--pull", "/tmp/out", "--pull-to", "back", "--", "sh", "-c", script)
    assert go(*words).returncode == 3
    found = sorted(str(path.relative_to("back")) for path in Path("back").rglob("*"))
    assert found == ["out", "out/sub", "out/sub/report"]
    done = go(*words)
    assert done.returncode == 125
    assert b"is there already" in done.stderr
    assert go("--pull", "/absent", "--", "true").returncode == 125
    done = go("--pull", "/absent", "--", "sh", "-c", "exit 3")
    assert done.returncode == 3
    assert b"pull: FileNotFoundError" in done.stderr
    assert sorted(os.listdir()) == ["back", "data"]


def test_run_tells_a_panic(project: Path) -> None:
    """A kernel that panics under a test is told with its log and is a broken row."""
    script = "echo TAP version 13; echo 1..1; sleep 1; echo c > /proc/sysrq-trigger; sleep 60"
    done = go("--", "sh", "-c", script)
    assert done.returncode == 125
    assert b"machine lost (panic)" in done.stderr
    assert b"sysrq" in done.stderr
    rows = json.loads((project / "results/6.12.json").read_text())["results"]
    assert {row["outcome"] for row in rows} == {"broken"}
    assert any("sysrq" in (row["log"] or "") for row in rows)


def test_run_hears_the_kernel_complain(project: Path) -> None:
    """A warning in the kernel's log makes a failure of a program whose tests all pass."""
    script = "echo TAP version 13; echo 1..1; echo '<4>WARNING: CPU: 0 made up' > /dev/kmsg; echo ok 1 a"
    done = go("--", "sh", "-c", script)
    assert done.returncode == 1
    assert b"kernel log: WARNING: CPU: 0 made up" in done.stderr
    rows = {row["node"]: row for row in json.loads((project / "results/6.12.json").read_text())["results"]}
    assert rows["sh::kernel log"]["outcome"] == "fail"
    assert rows["sh::a"]["outcome"] == "pass"


def test_run_on_two_kernels(project: Path) -> None:
    """On several kernels there is a row for each, and a results file for each that spoke TAP."""
    script = "echo TAP version 13; echo 1..1; echo ok 1 $(uname -r | cut -d. -f1,2)"
    done = go("--kernel", "5.10,6.12", "--json", "--", "sh", "-c", script)
    rows = json.loads(done.stdout)
    assert [(row["kernel"], row["status"], row["tests"]) for row in rows] == [
        ("5.10", 0, {"pass": 1}),
        ("6.12", 0, {"pass": 1}),
    ]
    for kernel in ("5.10", "6.12"):
        [row] = json.loads((project / f"results/{kernel}.json").read_text())["results"]
        assert row["node"] == f"sh::{kernel}"


def test_run_forwards(project: Path) -> None:
    """A port of the host leads to a program while it runs."""
    pipe = subprocess.PIPE
    script = "mkdir /tmp/w; echo hi > /tmp/w/index.html; busybox httpd -p 80 -h /tmp/w; echo ready; exec sleep inf"
    command = [*COMMAND, "run", "--forward", "0:80", "--", "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline() == "ready\n"
            line = next(line for line in process.stderr if "leads to" in line)
            where = line.split()[1]
            with urllib.request.urlopen(f"http://{where}/", timeout=60) as answer:
                assert answer.read() == b"hi\n"
        finally:
            process.terminate()
    assert process.returncode == 143
