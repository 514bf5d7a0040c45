"""--vm-none: the same tests in fresh namespaces of this host."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from kernelproof.vm.namespaces import describe_host
from kernelproof.vm.selection import MachineKey

PROBE = """
import os
from kernelproof.vm.guest.forking import enter_fresh_namespaces
enter_fresh_namespaces(lambda pid: None)
print("entered", flush=True)
"""


@pytest.fixture(scope="module")
def _namespaces() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    if done.stdout != "entered\n":
        pytest.skip(f"not applicable: this host gives no namespaces: {done.stderr.strip().splitlines()[-1:]}")


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """pytest in a process of its own: nothing of this one is inherited."""
    return pytester.runpytest_subprocess(
        "--vm-none", "-p", "no:cacheprovider", "-p", "no:kernelproof-conformance", *arguments
    )


@pytest.mark.usefixtures("_namespaces")
def test_fresh_namespaces(pytester: pytest.Pytester) -> None:
    """Each test has processes, host name, interfaces, mounts and IPC of its own, and leaves nothing to the next."""
    before, number = os.uname(), str(10**6 + os.getpid())  # of seconds: nobody else's
    pytester.makepyfile(
        """
        import os, pathlib, pytest, socket, subprocess
        pytestmark = pytest.mark.machine

        def test_first(tmp_path):
            assert socket.gethostname() == "kernelproof"
            assert os.getpid() == 2 and sorted(n for n in os.listdir("/proc") if n.isdecimal()) == ["1", "2"]
            assert [name for _, name in socket.if_nameindex()] == ["lo"]
            with socket.create_server(("127.0.0.1", 4321)) as server:
                socket.create_connection(server.getsockname()).close()
            assert "shared:" not in pathlib.Path("/proc/self/mountinfo").read_text()
            socket.sethostname("dirty")
            subprocess.Popen(["sleep", "NUMBER"])
        def test_second(): test_first(None)
        """.replace("NUMBER", number)
    )
    run(pytester).assert_outcomes(passed=2)
    assert os.uname() == before
    assert f"sleep\0{number}\0" not in _command_lines()


def _command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_text(errors="replace"))
        except OSError:  # it has ended
            continue
    return found


@pytest.mark.usefixtures("_namespaces")
def test_losses(pytester: pytest.Pytester) -> None:
    """A process that ends, or goes on for too long, breaks its test alone; the header says what it runs in."""
    pytester.makepyfile(
        """
        import os, pytest, select
        pytestmark = pytest.mark.machine
        def test_exit(): os._exit(3)
        def test_loop():
            select.select([], [], [])
        def test_after(): pass
        """
    )
    result = run(pytester, "--vm-timeout", "6")
    result.assert_outcomes(errors=2, passed=1)
    result.stdout.fnmatch_lines(
        [
            "kernelproof: kernel of this host, in fresh namespaces (no machines)",
            f"kernelproof: {platform.release()}, fresh namespaces, Python *",
            "*machine lost (agent): *",
            "*machine lost (hang): *",
            "*in test_loop*",
        ]
    )


@pytest.mark.usefixtures("_namespaces")
def test_workers_and_repetitions(pytester: pytest.Pytester) -> None:
    """Workers make their own namespaces; a repetition does not touch the host's CPUs."""
    pytester.makepyfile(
        """
        import os, pytest
        @pytest.mark.machine
        def test_it(): assert os.cpu_count() == CPUS
        """.replace("CPUS", str(os.cpu_count()))
    )
    run(pytester, "-n", "2", "--vm-repeat", "6").assert_outcomes(passed=6)


@pytest.mark.usefixtures("_namespaces")
def test_behaviours(pytester: pytest.Pytester) -> None:
    """Results are filed under this host's kernel; its log is not judged, and a capability that it lacks is no fault."""
    if os.geteuid() != 0:
        pytest.skip("not applicable: a user has all capabilities in a user namespace")
    entry = '[[behaviour]]\nid = "a.b.{}"\nstatement = "So."\nsource = "a document, a section"\nneeds = {}\n'
    folder = pytester.mkdir("behaviours")
    (folder / "demo.toml").write_text(entry.format("one", "[]") + entry.format("two", '["CAP_BPF"]'))
    pytester.makepyfile(
        """
        from kernelproof import behaviour

        @behaviour("a.b.one")
        def test_one(): pass
        @behaviour("a.b.two")
        def test_two(): assert False
        """
    )
    command = [sys.executable, "-m", "pytest", "--vm-none", "-p", "no:cacheprovider"]
    lacking = "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 39, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
    subprocess.run([sys.executable, "-c", lacking, *command], check=True)  # PR_CAPBSET_DROP, CAP_BPF
    data = json.loads((pytester.path / "results" / f"host-{platform.release()}.json").read_text())
    assert [row["outcome"] for row in data["results"]] == ["pass", "not_applicable"]
    assert data["machine"]["qemu"] is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--kernel", "6.12"), "*there is this host's alone*leave out --kernel or --vm-none*"),
        (("--pdb",), "*--vm-none has no machine to debug in or to keep*"),
        (("--vm-keep",), "*--vm-none has no machine to debug in or to keep*"),
    ],
    ids=["kernel", "pdb", "keep"],
)
def test_what_does_not_go_together(words: tuple[str, ...], says: str, pytester: pytest.Pytester) -> None:
    """Options that need a machine are usage errors."""
    pytester.makepyfile("import pytest\n@pytest.mark.machine\ndef test_it(): pass")
    result = run(pytester, *words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = " ".join(result.stderr.lines)
    assert all(part in said for part in says.strip("*").split("*"))


def test_facts() -> None:
    """Results are filed under the host's release; what is not known of a host is said to be not known."""
    facts = describe_host(MachineKey("host-6.99.0", "plain", "virtual"))
    assert facts["machine"] == {
        "qemu": None,
        "accelerator": None,
        "time": "none",
        "cpus": len(os.sched_getaffinity(0)),
    }
    kernel = facts["kernel"]
    assert isinstance(kernel, dict)
    assert (kernel["name"], kernel["release"]) == ("host-6.99.0", platform.release())
