"""What can be asked of a machine, asked of real ones."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kernelproof.vm.errors import GuestError
from kernelproof.vm.machine import Machine
from kernelproof.vm.template import Template


def test_command(machine: Machine) -> None:
    """A command's output, error output and exit status come back; its input reaches it."""
    done = machine.run(["sh", "-c", "cat; echo wrong >&2; exit 3"], input=b"given")
    assert (done.stdout, done.stderr, done.returncode, done.cut_bytes) == ("given", "wrong\n", 3, 0)


def test_command_environment_and_directory(machine: Machine) -> None:
    """A command gets the environment and the directory that it is given."""
    done = machine.run(["/usr/bin/env"], environment={"A": "ä"}, directory="/tmp")
    assert done.stdout == "A=ä\n"
    assert machine.run(["pwd"], directory="/tmp").stdout == "/tmp\n"


def test_killed_command(machine: Machine) -> None:
    """A command that a signal ends has minus the signal's number as return code."""
    assert machine.run(["sh", "-c", "kill -9 $$"]).returncode == -9


def test_missing_command(machine: Machine) -> None:
    """A command that is not there is the guest's error, and the machine goes on."""
    with pytest.raises(GuestError, match="No such file or directory: 'absent'") as caught:
        machine.run(["absent"])
    assert caught.value.type == "FileNotFoundError"
    assert machine.run(["true"]).returncode == 0


def test_much_output(machine: Machine) -> None:
    """Of 100 MB of output 8 MiB are kept, and the rest is counted."""
    done = machine.run(["head", "-c", "100000000", "/dev/zero"], timeout=120)
    assert len(done.stdout_bytes) == 8 * 1024 * 1024
    assert done.cut_bytes == 100_000_000 - 8 * 1024 * 1024


def test_output_that_is_no_text(machine: Machine) -> None:
    """Bytes that are no UTF-8 come back as they are, and as backslash escapes in the text."""
    done = machine.run(["printf", r"a\377\033b"])
    assert done.stdout_bytes == b"a\xff\x1bb"
    assert done.stdout == "a\\xff\x1bb"


def test_call(machine: Machine) -> None:
    """A function of the guest is called with plain values."""
    assert machine.call("os.path:join", "/a", "b") == "/a/b"
    assert machine.call("json:dumps", {"b": [1, None, 1.5]}, sort_keys=True) == '{"b": [1, null, 1.5]}'
    assert machine.call("os:getpid") != 1


@pytest.mark.parametrize(
    ("function", "kind"),
    [("absent:f", "ModuleNotFoundError"), ("os:absent", "AttributeError"), ("os:uname_", "AttributeError")],
)
def test_call_of_what_is_not_there(machine: Machine, function: str, kind: str) -> None:
    """A function that is not there is the guest's error."""
    with pytest.raises(GuestError) as caught:
        machine.call(function)
    assert caught.value.type == kind


def test_result_that_is_not_plain(machine: Machine) -> None:
    """What a function returned that is not plain is the guest's error, and the machine goes on."""
    with pytest.raises(GuestError, match="not plain data"):
        machine.call("threading:Lock")
    assert machine.call("os:getppid") == 1


def test_files(machine: Machine, tmp_path: Path) -> None:
    """A tree goes in with its links and modes, and its regular files come out."""
    tree = tmp_path / "in"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "tool").write_bytes(os.urandom(3_000_000))
    (tree / "deep" / "tool").chmod(0o755)
    (tree / "link").symlink_to("deep/tool")
    machine.push(tree, "/srv/tree")
    assert machine.run(["stat", "-c", "%a %U %s", "/srv/tree/deep/tool"]).stdout == "755 root 3000000\n"
    assert machine.run(["readlink", "/srv/tree/link"]).stdout == "deep/tool\n"
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert machine.pull("/srv/tree", folder, "out") == 1
    finally:
        os.close(folder)
    assert (tmp_path / "out/deep/tool").read_bytes() == (tree / "deep/tool").read_bytes()
    assert not (tmp_path / "out/link").exists()


def test_clock(machine: Machine) -> None:
    """A clone's wall clock is the host's, not that of its template."""
    before = time.time()
    guest = machine.call("time:time")
    assert isinstance(guest, float)
    assert before - 1 < guest < time.time() + 60


def test_virtual_time_jumps(machine: Machine) -> None:
    """Under virtual time a minute of sleep takes its minute by the guest's clock and hardly any by the host's."""
    if machine.facts["machine"]["time"] != "virtual":  # type: ignore[index,call-overload]
        pytest.skip("not applicable: KVM has no virtual time")
    # One request: between two the clock of an idle guest may leap before it is stopped.
    program = "import time; began = time.monotonic(); time.sleep(60); print(time.monotonic() - began)"
    slept = float(machine.run(["python3", "-c", program]).stdout)
    assert 60 <= slept < 62
    assert machine.close().cpu_seconds < 20


def test_machine_stands_still_between_requests(machine: Machine) -> None:
    """Between two requests nothing runs: in virtual time an idle guest would burn a core, and its clock would race."""
    if machine.facts["machine"]["time"] != "virtual":  # type: ignore[index,call-overload]
        pytest.skip("not applicable: KVM has no virtual time")
    machine.call("time:time")
    stat = Path(f"/proc/{machine._running.child.pid}/stat")
    used = [stat.read_text().rpartition(")")[2].split()[11:13]]
    time.sleep(0.5)  # the span that is looked at
    used.append(stat.read_text().rpartition(")")[2].split()[11:13])
    ticks = [sum(map(int, pair)) for pair in used]
    assert ticks[1] - ticks[0] <= 2  # hundredths of a second, of fifty


def test_what_a_machine_is(machine: Machine) -> None:
    """The initial rootfs is left, nothing but the listed file systems is mounted, no cgroup hierarchy is."""
    lines = machine.run(["cat", "/proc/self/mountinfo"]).stdout.splitlines()
    assert [line.split()[4] for line in lines] == ["/", "/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/run", "/tmp"]
    script = "mkdir -p /tmp/r && mount -t tmpfs r /tmp/r && mkdir /tmp/r/old && pivot_root /tmp/r /tmp/r/old"
    assert machine.run(["unshare", "-m", "sh", "-c", script]).returncode == 0
    assert machine.run(["cat", "/proc/1/comm"]).stdout.strip() != machine.run(["cat", "/proc/self/comm"]).stdout.strip()
    assert machine.run(["ip", "-br", "link"]).stdout.split()[0] == "lo"
    assert machine.run(["ip", "-br", "link"]).stdout.count("\n") == 1


@pytest.mark.parametrize("time_kind", ["real"])
def test_example_of_the_readme(time_kind: str) -> None:
    """The example of the README works: the template need not be kept."""
    with Template("6.12", profile="plain", time=time_kind).clone() as machine:
        assert machine.run(["uname", "-r"]).stdout.startswith("6.12.")


def test_closed_machine(template: Template) -> None:
    """A closed machine says so."""
    machine = template.clone()
    usage = machine.close()
    assert usage.cpu_seconds > 0
    assert machine.close() is usage
    with pytest.raises(RuntimeError, match="closed"):
        machine.run(["true"])
