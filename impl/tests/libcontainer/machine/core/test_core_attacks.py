"""Attacks on the runtime that were found in others, each against a whole container."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.libcontainer import Host, InvalidIdError, Request, StartError, lifecycle, plan_container, running
from kernelproof.impl.libcontainer.config.records import Capabilities, Config, Hook, Hooks, Process
from kernelproof.impl.libcontainer.config.writing import dump

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.usefixtures("nothing_left")]


def create(bundle: Any, config: Config) -> lifecycle.Started:
    text = dump(config, own=True).encode()
    return lifecycle.create(str(bundle.states), config, Request("box", str(bundle.path)), config_text=text)


def end(started: lifecycle.Started) -> int:
    os.close(started.pidfd)
    return running.await_end(started)


def test_cve_2016_9962_a_waiting_process_shows_nothing_of_the_host(bundle: Any, cgroup2: Path) -> None:
    """A created container's process can't be looked at from inside, and has no directory of the host open."""
    started = create(bundle, bundle.config("true"))
    pid = running._pid_of(started)
    root = os.stat("/")
    for fd in sorted(map(int, os.listdir(f"/proc/{pid}/fd"))):
        try:
            name, found = os.readlink(f"/proc/{pid}/fd/{fd}"), os.stat(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:  # it had told that it waits, and closed the way that it told it by
            continue
        assert fd <= 2 or name in {"/", str(bundle.rootfs), "/proc"} or name.startswith("socket:")
        assert (found.st_dev, found.st_ino) != (root.st_dev, root.st_ino)
    # The owner of these files is root whoever the process is, as long as it is undumpable.
    look = Process("/", ("sh", "-c", "readlink /proc/1/exe; ls /proc/1/fd"), ("PATH=/bin",))
    unprivileged = look.replace(user=look.user.replace(uid=1000, gid=1000))
    assert end(running.execute(str(bundle.states), "box", unprivileged)) != 0
    lifecycle.delete(str(bundle.states), "box", force=True)
    assert end(started) == 137


# By way of /proc/PID: root, working directory and descriptors of whatever else is in the PID namespace.
LOOK = """while :; do
for p in /proc/[0-9]*; do
    [ $p = /proc/1 ] && continue
    for way in root cwd; do [ -e $p/$way/SECRET ] && echo $way; done
    for way in $p/fd/*; do [ -e $way/state.json ] && echo state; done
done
echo round
done >> /found"""
TRACE = ("CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE")


def test_cve_2016_9962_entering_shows_nothing_of_the_host(bundle: Any, cgroup2: Path) -> None:
    """Who may trace all of its PID namespace finds no process there with the host's root or descriptors."""
    secret = Path("/secret")
    secret.touch()
    config = bundle.config("sh", "-c", LOOK.replace("SECRET", secret.name))
    rights = Capabilities(bounding=TRACE, effective=TRACE, permitted=TRACE)
    started = create(bundle, config.replace(process=config.process.replace(capabilities=rights)))
    lifecycle.start(str(bundle.states), "box")
    for _ in range(20):
        assert end(running.execute(str(bundle.states), "box", Process("/", ("true",), ("PATH=/bin",)))) == 0
    lifecycle.delete(str(bundle.states), "box", force=True)
    assert end(started) == 137
    secret.unlink()
    assert set((bundle.rootfs / "found").read_text().split()) == {"round"}


def test_cve_2024_21626_no_directory_leads_out(bundle: Any, cgroup2: Path) -> None:
    """A working directory /proc/self/fd/N is refused or inside, for the first process and for further ones."""
    kept = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(kept, True)
    try:
        (bundle.rootfs / "marker").touch()
        first = create(bundle, bundle.config("sleep", "1000"))
        lifecycle.start(str(bundle.states), "box")
        for number in range(3, 21):
            process = Process(f"/proc/self/fd/{number}", ("ls", "/marker", "bin/busybox"), ("PATH=/bin",))
            try:
                code = end(running.execute(str(bundle.states), "box", process))
            except StartError:
                continue
            assert code == 0, f"descriptor {number} led somewhere else"
        lifecycle.kill(str(bundle.states), "box", signal.SIGKILL)
        assert end(first) == 137
        lifecycle.delete(str(bundle.states), "box")
    finally:
        os.close(kept)


def test_cve_2019_5736_nothing_is_loaded_from_the_container(bundle: Any, cgroup2: Path) -> None:
    """A root full of Python modules and libraries of the same names is never looked at by the runtime's process."""
    for name in ("encodings", "json", "signal.py", "ctypes", "lib/x86_64-linux-gnu/libc.so.6", "usr/lib/python3"):
        place = bundle.rootfs / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("raise SystemExit(99)")
    started = create(bundle, bundle.config("true"))
    pid = running._pid_of(started)
    mapped = {line.split()[-1] for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "/" in line}
    assert not any(str(bundle.rootfs) in name for name in mapped)
    lifecycle.start(str(bundle.states), "box")
    assert end(started) == 0
    lifecycle.delete(str(bundle.states), "box")


def test_cve_2025_23266_hooks_do_not_get_the_image_environment(bundle: Any, cgroup2: Path, tmp_path: Path) -> None:
    """A hook of the host has the runtime's environment, not the container's, and its directory is not in the root."""
    log = tmp_path / "log"
    hook = Hook("/bin/sh", ("sh", "-c", f"echo [$LD_PRELOAD] $(pwd) >> {log}"))
    config = bundle.config("true")
    process = config.process.replace(env=("PATH=/bin", "LD_PRELOAD=/evil.so"))
    hooks = Hooks(prestart=(hook,), create_runtime=(hook,), create_container=(hook,), poststart=(hook,))
    started = create(bundle, config.replace(process=process, hooks=hooks))
    lifecycle.start(str(bundle.states), "box")
    assert end(started) == 0
    lifecycle.delete(str(bundle.states), "box")
    lines = log.read_text().splitlines()
    assert len(lines) == 4
    for line in lines:
        assert line.startswith("[] /")
        assert str(bundle.rootfs) not in line


def test_cve_2024_3154_annotations_change_nothing(bundle: Any, cgroup2: Path) -> None:
    """Annotations are data: with any of them the plan is the same, but what hooks are told."""
    plain = bundle.config("true")
    loud = plain.replace(annotations=(("org.systemd.property.ExecStartPre", "['/bin/evil']"), ("run.oci.x", "1")))
    request = Request("box", str(bundle.path))
    assert plan_container(plain, Host(), request) == plan_container(loud, Host(), request)
    with pytest.raises(InvalidIdError):
        lifecycle.read_state(str(bundle.states), "../box")


def test_cve_2021_43784_lengths_are_checked(bundle: Any, cgroup2: Path) -> None:
    """An environment and arguments of more than 64 KiB, and numbers of 64 bits, arrive whole or are refused."""
    long = "x" * 100_000
    config = bundle.config("sh", "-c", f"test ${{#LONG}} = {len(long)}")
    config = config.replace(process=config.process.replace(env=("PATH=/bin", f"LONG={long}")))
    started = create(bundle, config)
    lifecycle.start(str(bundle.states), "box")
    assert end(started) == 0
    lifecycle.delete(str(bundle.states), "box")
