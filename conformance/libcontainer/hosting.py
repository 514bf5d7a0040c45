"""What a test does on the host, beside the runtime: scripts, namespaces to join, waiting."""

from __future__ import annotations

import os
import select
import subprocess

from kernelproof.conformance.libcontainer.box import SECONDS

_OPTIONS = {"net": "--net", "ipc": "--ipc", "uts": "--uts", "pid": "--pid", "cgroup": "--cgroup"}


def host_shell(text: str) -> str:
    """What a script on the host writes; it ends with status 0."""
    return subprocess.run(["sh", "-ec", text], check=True, capture_output=True, encoding="utf-8").stdout


def new_namespace(name: str) -> str:
    """The path of a new namespace, by its name in /proc/PID/ns, that lives on in a process which only sleeps."""
    reader, writer = os.pipe()
    fork = ["--fork"] if name == "pid" else []
    words = ["unshare", _OPTIONS[name], *fork, "sh", "-c", "echo made; exec sleep 1000 >&-"]
    pid = os.posix_spawnp("unshare", words, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
    os.close(writer)
    with open(reader, "rb") as said:
        assert said.readline() == b"made\n", f"{words} has made no namespace"
    return f"/proc/{pid}/ns/{'pid_for_children' if name == 'pid' else name}"


def readable(descriptor: int) -> bool:
    """Whether something can be read from it before long."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(SECONDS * 1000))
