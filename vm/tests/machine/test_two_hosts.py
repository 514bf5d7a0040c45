"""Workers on another host, over ssh: two network namespaces with a cable in between, and processes kept apart.

What they share is a file system, as two hosts of a build farm may: the project and the cache lie in the same place.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kernelproof.vm.cache import default_cache_root

pytest.importorskip("xdist")
CACHE = default_cache_root()
OURS, THEIRS, PORT = "10.231.77.1", "10.231.77.2", "2222"
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
TESTS = """
import os, pytest

@pytest.mark.machine
@pytest.mark.parametrize("number", range(6))
def test_release(number): assert os.uname().release.startswith("6.12.")

@pytest.mark.machine
def test_fails(): assert os.uname().nodename == "elsewhere"
"""
# Where each worker is, as the kernel knows it.
WHERE = """
import os

def pytest_sessionstart(session):
    worker = getattr(session.config, "workerinput", {}).get("workerid")
    if worker is not None:
        places = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "pid")]
        (session.config.rootpath / worker).write_text(" ".join(places))
"""
SSHD_CONFIG = """\
ListenAddress {address}
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
StrictModes no
UsePAM no
PidFile none
SetEnv KERNELPROOF_CACHE={cache} PYTHONPATH={path}
"""
SSH_CONFIG = """\
Host other
    HostName {address}
    Port {port}
    User root
    IdentityFile {folder}/user
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known
    BatchMode yes
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False)


def find_obstacle() -> str | None:
    """What this host lacks for a second host in it."""
    if os.geteuid() != 0:
        return "network namespaces and sshd want root"
    missing = [name for name in ("ip", "ssh", "ssh-keygen", "unshare", "nsenter") if shutil.which(name) is None]
    if missing or SSHD is None:
        return f"no {' '.join(missing) or 'sshd'} here"
    name = f"kp-probe-{os.getpid()}"
    made = run("ip", "netns", "add", name)
    run("ip", "netns", "del", name)
    return None if made.returncode == 0 else f"no network namespaces here: {made.stderr.strip()}"


@pytest.fixture
def other_host(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The network namespace of the controller's host, and the configuration by which ssh reaches the other one."""
    if (obstacle := find_obstacle()) is not None:
        pytest.skip(f"not applicable: {obstacle}")
    here, there = (f"kp-{side}-{os.getpid()}" for side in ("a", "b"))
    with ExitStack() as stack:
        for name in (here, there):
            assert run("ip", "netns", "add", name).returncode == 0
            stack.callback(run, "ip", "netns", "del", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        words = ("ip", "-n", here, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", there)
        if (made := run(*words)).returncode != 0:
            pytest.skip(f"not applicable: no veth here: {made.stderr.strip()}")
        for name, address in ((here, OURS), (there, THEIRS)):
            run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "cable")
            run("ip", "-n", name, "link", "set", "cable", "up")
        yield here, start_sshd(stack, there, tmp_path)


def start_sshd(stack: ExitStack, there: str, folder: Path) -> Path:
    for name in ("host", "user"):
        assert run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)).returncode == 0
    facts = {"address": THEIRS, "port": PORT, "folder": folder, "cache": CACHE, "path": os.pathsep.join(sys.path)}
    (folder / "sshd").write_text(SSHD_CONFIG.format(**facts))
    (folder / "ssh").write_text(SSH_CONFIG.format(**facts))
    key = (folder / "host.pub").read_text()
    (folder / "known").write_text(f"[{THEIRS}]:{PORT} {key}")
    Path("/run/sshd").mkdir(exist_ok=True)
    # Its own processes too: a worker there can't open what the controller holds.
    isolated = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    command = ("ip", "netns", "exec", there, *isolated, str(SSHD), "-D", "-e", "-f", str(folder / "sshd"))
    nothing, pipe = subprocess.DEVNULL, subprocess.PIPE
    process = stack.enter_context(subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=pipe, text=True))
    stack.callback(process.kill)
    assert process.stderr is not None
    said = ""
    for line in iter(process.stderr.readline, ""):
        said += line
        if "Server listening" in line:
            break
    assert "Server listening" in said, said
    return folder / "ssh"


def test_workers_over_ssh(other_host: tuple[str, Path], pytester: pytest.Pytester) -> None:
    """Items run in machines of another host as they do in those of this one; its workers make their own templates."""
    here, config = other_host
    pytester.makeini("[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\n")
    pytester.makeconftest(WHERE)
    pytester.makepyfile(test_away=TESTS)
    spec = f"ssh=other//ssh_config={config}//python={sys.executable}//chdir={pytester.path}"
    command = ("ip", "netns", "exec", here, sys.executable, "-m", "pytest", "-v", "--kernel", "6.12")
    workers = ("-d", "--tx", "popen", "--tx", spec)
    environment = {**os.environ, "KERNELPROOF_CACHE": str(CACHE)}
    done = subprocess.run(
        [*command, *workers], cwd=pytester.path, env=environment, capture_output=True, text=True, check=False
    )
    assert "1 failed, 6 passed" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.returncode == 1
    ran = {line.split()[0] for line in done.stdout.splitlines() if " PASSED " in line}
    assert ran == {"[gw0]", "[gw1]"}
    near, far = ((pytester.path / worker).read_text().split() for worker in ("gw0", "gw1"))
    assert near[0] != far[0]
    assert near[1] != far[1]
