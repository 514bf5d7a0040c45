"""Hooks: when each kind is called, where, with what, and what its failure does."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.conformance.libcontainer.acting import ACCEPTED, REFUSED, config

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.acting import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]

KINDS_OF_HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def sh(text: str, **members: object) -> dict[str, object]:
    """A hook that is a script; what it says to standard output goes nowhere."""
    return {"path": "/bin/sh", "args": ["sh", "-c", text], **members}


def log_of(box: Box) -> str:
    """A file that hooks on the host and in the container's root can write."""
    return str(box.rootfs / "data/log")


def lines_of(box: Box) -> list[str]:
    """What hooks wrote."""
    path = box.rootfs / "data/log"
    return path.read_text().splitlines() if path.exists() else []


def hooked(*args: str, **hooks: object) -> dict[str, object]:
    """A configuration with hooks."""
    return config(*args, hooks=hooks)


def state_of(box: Box, kind: str) -> dict[str, Any]:
    """What a hook of a kind read from its standard input."""
    log = "/data/log" if kind == "startContainer" else log_of(box)
    box.create(config("sleep", "1000", hooks={kind: [sh(f"cat >> {log}")]}, annotations={"com.example.a": "b"}))
    box.start()
    box.delete(force=True)
    found: dict[str, Any] = json.loads("\n".join(lines_of(box)))
    return found


@behaviour("oci.hooks.order-in-list")
def test_hooks_order_in_list(box: Box, seen: Seen) -> None:
    """Hooks of one kind are called in the listed order."""
    log = log_of(box)
    box.run(hooked("true", createRuntime=[sh(f"echo {word} >> {log}") for word in ("one", "two", "three")]))
    assert seen(lines_of(box)) == ["one", "two", "three"]


@behaviour("oci.hooks.order-of-kinds")
def test_hooks_order_of_kinds(box: Box, seen: Seen) -> None:
    """Hooks are called in the order prestart, createRuntime, createContainer, startContainer, poststart, poststop."""
    log = log_of(box)
    hooks = {kind: [sh(f"echo {kind} >> {log}")] for kind in KINDS_OF_HOOKS}
    hooks["startContainer"] = [sh("echo startContainer >> /data/log")]
    box.create(hooked("true", **hooks))
    box.start()
    box.wait()
    box.delete()
    assert seen(lines_of(box)) == list(KINDS_OF_HOOKS)


@behaviour("oci.hooks.prestart-in-create")
def test_hooks_prestart_in_create(box: Box, seen: Seen) -> None:
    """prestart hooks are called by create."""
    log = log_of(box)
    box.create(hooked("true", prestart=[sh(f"echo called >> {log}")]))
    called = lines_of(box)
    box.delete(force=True)
    assert seen(called) == ["called"]


@behaviour("oci.hooks.createruntime-in-create")
def test_hooks_createruntime_in_create(box: Box, seen: Seen) -> None:
    """createRuntime hooks are called by create."""
    log = log_of(box)
    box.create(hooked("true", createRuntime=[sh(f"echo called >> {log}")]))
    called = lines_of(box)
    box.delete(force=True)
    assert seen(called) == ["called"]


@behaviour("oci.hooks.createcontainer-in-create")
def test_hooks_createcontainer_in_create(box: Box, seen: Seen) -> None:
    """createContainer hooks are called by create."""
    log = log_of(box)
    box.create(hooked("true", createContainer=[sh(f"echo called >> {log}")]))
    called = lines_of(box)
    box.delete(force=True)
    assert seen(called) == ["called"]


@behaviour("oci.hooks.startcontainer-in-start")
def test_hooks_startcontainer_in_start(box: Box, seen: Seen) -> None:
    """startContainer hooks are called by start, and not by create."""
    box.create(hooked("true", startContainer=[sh("echo called >> /data/log")]))
    before = lines_of(box)
    box.start()
    box.wait()
    box.delete(force=True)
    assert seen((before, lines_of(box))) == ([], ["called"])


@behaviour("oci.hooks.startcontainer-before-program")
def test_hooks_startcontainer_before_program(box: Box, seen: Seen) -> None:
    """startContainer hooks are called before the container's program."""
    box.run(hooked("sh", "-c", "echo program >> /data/log", startContainer=[sh("echo hook >> /data/log")]))
    assert seen(lines_of(box)) == ["hook", "program"]


@behaviour("oci.hooks.poststart-in-start")
def test_hooks_poststart_in_start(box: Box, seen: Seen) -> None:
    """poststart hooks are called before start returns."""
    log = log_of(box)
    box.create(hooked("sleep", "1000", poststart=[sh(f"echo called >> {log}")]))
    before = lines_of(box)
    box.start()
    after = lines_of(box)
    box.delete(force=True)
    assert seen((before, after)) == ([], ["called"])


@behaviour("oci.hooks.poststart-after-program")
def test_hooks_poststart_after_program(box: Box, seen: Seen) -> None:
    """poststart hooks are called when the container's program runs."""
    log = log_of(box)
    script = f"pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); cat /proc/$pid/comm >> {log}"
    box.create(hooked("sleep", "1000", poststart=[sh(script)]))
    box.start()
    box.delete(force=True)
    assert seen(lines_of(box)) == ["sleep"]


@behaviour("oci.hooks.poststop-in-delete")
def test_hooks_poststop_in_delete(box: Box, seen: Seen) -> None:
    """poststop hooks are called by delete, and not before."""
    log = log_of(box)
    box.create(hooked("true", poststop=[sh(f"echo called >> {log}")]))
    box.start()
    box.wait()
    before = lines_of(box)
    box.delete()
    assert seen((before, lines_of(box))) == ([], ["called"])


@behaviour("oci.hooks.poststop-after-process")
def test_hooks_poststop_after_process(box: Box, seen: Seen) -> None:
    """poststop hooks are called when the container's process is gone."""
    log = log_of(box)
    pid = box.begin(
        hooked("sleep", "1000", poststop=[sh(f"cat /proc/$(cat {log}.pid)/comm >> {log} 2>&1; echo end >> {log}")])
    )
    (box.rootfs / "data/log.pid").write_text(str(pid))
    box.kill()
    box.wait()
    box.delete()
    assert seen([line for line in lines_of(box) if line in ("sleep", "end")]) == ["end"]


@behaviour("oci.hooks.prestart-runtime-namespace")
def test_hooks_prestart_runtime_namespace(box: Box, seen: Seen) -> None:
    """prestart hooks run in the runtime's namespaces."""
    log = log_of(box)
    box.run(hooked("true", prestart=[sh(f"readlink /proc/self/ns/mnt /proc/self/ns/uts >> {log}")]))
    own = [os.readlink("/proc/self/ns/mnt"), os.readlink("/proc/self/ns/uts")]
    assert seen(lines_of(box) == own) is True


@behaviour("oci.hooks.createruntime-runtime-namespace")
def test_hooks_createruntime_runtime_namespace(box: Box, seen: Seen) -> None:
    """createRuntime hooks run in the runtime's namespaces."""
    log = log_of(box)
    box.run(hooked("true", createRuntime=[sh(f"readlink /proc/self/ns/mnt /proc/self/ns/uts >> {log}")]))
    own = [os.readlink("/proc/self/ns/mnt"), os.readlink("/proc/self/ns/uts")]
    assert seen(lines_of(box) == own) is True


@behaviour("oci.hooks.poststart-runtime-namespace")
def test_hooks_poststart_runtime_namespace(box: Box, seen: Seen) -> None:
    """poststart hooks run in the runtime's namespaces."""
    log = log_of(box)
    box.run(hooked("true", poststart=[sh(f"readlink /proc/self/ns/mnt /proc/self/ns/uts >> {log}")]))
    own = [os.readlink("/proc/self/ns/mnt"), os.readlink("/proc/self/ns/uts")]
    assert seen(lines_of(box) == own) is True


@behaviour("oci.hooks.poststop-runtime-namespace")
def test_hooks_poststop_runtime_namespace(box: Box, seen: Seen) -> None:
    """poststop hooks run in the runtime's namespaces."""
    log = log_of(box)
    box.run(hooked("true", poststop=[sh(f"readlink /proc/self/ns/mnt /proc/self/ns/uts >> {log}")]))
    own = [os.readlink("/proc/self/ns/mnt"), os.readlink("/proc/self/ns/uts")]
    assert seen(lines_of(box) == own) is True


@behaviour("oci.hooks.createcontainer-container-namespace")
def test_hooks_createcontainer_container_namespace(box: Box, seen: Seen) -> None:
    """createContainer hooks run in the container's namespaces."""
    log = log_of(box)
    box.run(
        hooked(
            "sh",
            "-c",
            "readlink /proc/self/ns/mnt >> /data/log",
            createContainer=[sh(f"readlink /proc/self/ns/mnt >> {log}")],
        )
    )
    said = lines_of(box)
    assert seen((len(said), len(set(said)), os.readlink("/proc/self/ns/mnt") in said)) == (2, 1, False)


@behaviour("oci.hooks.createcontainer-path")
def test_hooks_createcontainer_path(box: Box, seen: Seen) -> None:
    """The path of a createContainer hook is one of the runtime's namespace."""
    script = box.bundle / "hook-of-the-host"
    script.write_text(f"#!/bin/sh\necho called >> {log_of(box)}\n")
    script.chmod(0o755)
    box.run(hooked("true", createContainer=[{"path": str(script)}]))
    assert seen(lines_of(box)) == ["called"]


@behaviour("oci.hooks.createcontainer-before-pivot")
def test_hooks_createcontainer_before_pivot(box: Box, seen: Seen) -> None:
    """createContainer hooks are called before the container's root is its own."""
    log = log_of(box)
    box.run(hooked("true", createContainer=[sh(f"test -d {box.rootfs} && echo the host >> {log}")]))
    assert seen(lines_of(box)) == ["the host"]


@behaviour("oci.hooks.startcontainer-path")
def test_hooks_startcontainer_path(box: Box, seen: Seen) -> None:
    """The path of a startContainer hook is one of the container's namespace."""
    script = box.rootfs / "hook-of-the-box"
    script.write_text("#!/bin/sh\necho called >> /data/log\n")
    script.chmod(0o755)
    box.run(hooked("true", startContainer=[{"path": "/hook-of-the-box"}]))
    assert seen(lines_of(box)) == ["called"]


@behaviour("oci.hooks.startcontainer-namespace")
def test_hooks_startcontainer_namespace(box: Box, seen: Seen) -> None:
    """startContainer hooks run in the container's namespaces."""
    text = "for kind in mnt uts pid; do readlink /proc/self/ns/$kind; done >> /data/log"
    box.run(hooked("sh", "-c", text, startContainer=[sh(text)]))
    said = lines_of(box)
    assert seen((len(said), said[:3] == said[3:])) == (6, True)


@behaviour("oci.hooks.args")
def test_hooks_args(box: Box, seen: Seen) -> None:
    """args of a hook is its whole argument vector, its name included."""
    log = log_of(box)
    hook = {
        "path": "/bin/sh",
        "args": [
            "called-so",
            "-c",
            f'echo "$0 $1" >> {log}; cat /proc/$$/cmdline | tr "\\0" "\\n" | head -n 1 >> {log}',
            "zero",
            "one",
        ],
    }
    box.run(hooked("true", createRuntime=[hook]))
    assert seen(lines_of(box)) == ["zero one", "called-so"]


@behaviour("oci.hooks.env")
def test_hooks_env(box: Box, seen: Seen) -> None:
    """env of a hook is its environment."""
    log = log_of(box)
    hook = sh(f"cat /proc/$$/environ | tr '\\0' '\\n' >> {log}", env=["A=1", "PATH=/usr/bin:/bin"])
    box.run(hooked("true", createRuntime=[hook]))
    assert seen(sorted(lines_of(box))) == ["A=1", "PATH=/usr/bin:/bin"]


@behaviour("oci.hooks.path-relative")
def test_hooks_path_relative(box: Box, seen: Seen) -> None:
    """A hook whose path is not absolute is refused by create."""
    assert seen(box.answer(hooked("true", createRuntime=[{"path": "sh", "args": ["sh", "-c", "exit 0"]}]))) == REFUSED


@behaviour("oci.hooks.path-required")
def test_hooks_path_required(box: Box, seen: Seen) -> None:
    """A hook without a path is refused by create."""
    assert seen(box.answer(hooked("true", createRuntime=[{"args": ["sh", "-c", "exit 0"]}]))) == REFUSED


@behaviour("oci.hooks.timeout-zero")
def test_hooks_timeout_zero(box: Box, seen: Seen) -> None:
    """A hook whose timeout is 0 is refused by create."""
    assert seen(box.answer(hooked("true", createRuntime=[sh("exit 0", timeout=0)]))) == REFUSED


@behaviour("oci.hooks.timeout-negative")
def test_hooks_timeout_negative(box: Box, seen: Seen) -> None:
    """A hook whose timeout is negative is refused by create."""
    assert seen(box.answer(hooked("true", poststop=[sh("exit 0", timeout=-1)]))) == REFUSED


@behaviour("oci.hooks.timeout")
def test_hooks_timeout(box: Box, seen: Seen) -> None:
    """A hook that runs longer than its timeout is aborted, and create fails."""
    assert seen(box.answer(hooked("true", createRuntime=[sh("exec sleep 25", timeout=1)]))) == REFUSED


@behaviour("oci.hooks.prestart-fails")
def test_hooks_prestart_fails(box: Box, seen: Seen) -> None:
    """A prestart hook that fails makes create fail, and the container is gone."""
    answer = box.answer(hooked("true", prestart=[sh("exit 3")]))
    assert seen((answer, box.does(box.state))) == (REFUSED, REFUSED)


@behaviour("oci.hooks.createruntime-fails")
def test_hooks_createruntime_fails(box: Box, seen: Seen) -> None:
    """A createRuntime hook that fails makes create fail, and the container is gone."""
    answer = box.answer(hooked("true", createRuntime=[sh("exit 3")]))
    assert seen((answer, box.does(box.state))) == (REFUSED, REFUSED)


@behaviour("oci.hooks.createcontainer-fails")
def test_hooks_createcontainer_fails(box: Box, seen: Seen) -> None:
    """A createContainer hook that fails makes create fail, and the container is gone."""
    answer = box.answer(hooked("true", createContainer=[sh("exit 3")]))
    assert seen((answer, box.does(box.state))) == (REFUSED, REFUSED)


@behaviour("oci.hooks.startcontainer-fails")
def test_hooks_startcontainer_fails(box: Box, seen: Seen) -> None:
    """A startContainer hook that fails makes start fail, and the program never runs."""
    box.create(hooked("touch", "/data/ran", startContainer=[sh("exit 3")]))
    answer = box.does(box.start)
    box.delete(force=True)
    assert seen((answer, (box.rootfs / "data/ran").exists())) == (REFUSED, False)


@behaviour("oci.hooks.poststop-fails")
def test_hooks_poststop_fails(box: Box, seen: Seen) -> None:
    """A poststop hook that fails is no error of delete, and the hooks after it are called."""
    log = log_of(box)
    box.begin(hooked("true", poststop=[sh("exit 3"), sh(f"echo second >> {log}")]))
    box.wait()
    assert seen((box.does(box.delete), lines_of(box), box.does(box.state))) == (ACCEPTED, ["second"], REFUSED)


@behaviour("oci.hooks.poststop-after-failing-create")
def test_hooks_poststop_after_failing_create(box: Box, seen: Seen) -> None:
    """poststop hooks are called when a createRuntime hook made create fail."""
    log = log_of(box)
    answer = box.answer(hooked("true", createRuntime=[sh("exit 3")], poststop=[sh(f"echo called >> {log}")]))
    assert seen((answer, lines_of(box))) == (REFUSED, ["called"])


@behaviour("oci.hooks.later-not-called")
def test_hooks_later_not_called(box: Box, seen: Seen) -> None:
    """After a createRuntime hook that failed no later one is called."""
    log = log_of(box)
    box.answer(hooked("true", createRuntime=[sh("exit 3"), sh(f"echo called >> {log}")]))
    assert seen(lines_of(box)) == []


@behaviour("oci.hooks.stdin-unread")
def test_hooks_stdin_unread(box: Box, seen: Seen) -> None:
    """A hook that does not read its standard input is no error."""
    assert seen(box.answer(hooked("true", createRuntime=[{"path": "/bin/true"}]))) == ACCEPTED


@behaviour("oci.hooks.prestart-state")
def test_hooks_prestart_state(box: Box, seen: Seen) -> None:
    """A prestart hook gets the container's state on its standard input, with its ID."""
    assert seen(state_of(box, "prestart")["id"]) == "box"


@behaviour("oci.hooks.createruntime-state")
def test_hooks_createruntime_state(box: Box, seen: Seen) -> None:
    """A createRuntime hook gets the container's state on its standard input, with its ID."""
    assert seen(state_of(box, "createRuntime")["id"]) == "box"


@behaviour("oci.hooks.createcontainer-state")
def test_hooks_createcontainer_state(box: Box, seen: Seen) -> None:
    """A createContainer hook gets the container's state on its standard input, with its ID."""
    assert seen(state_of(box, "createContainer")["id"]) == "box"


@behaviour("oci.hooks.startcontainer-state")
def test_hooks_startcontainer_state(box: Box, seen: Seen) -> None:
    """A startContainer hook gets the container's state on its standard input, with its ID."""
    assert seen(state_of(box, "startContainer")["id"]) == "box"


@behaviour("oci.hooks.poststart-state")
def test_hooks_poststart_state(box: Box, seen: Seen) -> None:
    """A poststart hook gets the container's state on its standard input, with its ID."""
    assert seen(state_of(box, "poststart")["id"]) == "box"


@behaviour("oci.hooks.poststop-state")
def test_hooks_poststop_state(box: Box, seen: Seen) -> None:
    """A poststop hook gets the container's state on its standard input, with its ID."""
    assert seen(state_of(box, "poststop")["id"]) == "box"


@behaviour("oci.hooks.state-status")
def test_hooks_state_status(box: Box, seen: Seen) -> None:
    """The status in the state of a startContainer hook is created."""
    assert seen(state_of(box, "startContainer")["status"]) == "created"


@behaviour("oci.hooks.state-status-running")
def test_hooks_state_status_running(box: Box, seen: Seen) -> None:
    """The status in the state of a poststart hook is running."""
    assert seen(state_of(box, "poststart")["status"]) == "running"


@behaviour("oci.hooks.state-status-stopped")
def test_hooks_state_status_stopped(box: Box, seen: Seen) -> None:
    """The status in the state of a poststop hook is stopped."""
    assert seen(state_of(box, "poststop")["status"]) == "stopped"


@behaviour("oci.hooks.state-bundle")
def test_hooks_state_bundle(box: Box, seen: Seen) -> None:
    """The bundle in a hook's state is the container's."""
    assert seen(state_of(box, "createRuntime")["bundle"] == str(box.bundle)) is True


@behaviour("oci.hooks.state-annotations")
def test_hooks_state_annotations(box: Box, seen: Seen) -> None:
    """The annotations in a hook's state are the container's."""
    assert seen(state_of(box, "createRuntime")["annotations"]) == {"com.example.a": "b"}


@behaviour("oci.hooks.state-pid")
def test_hooks_state_pid(box: Box, seen: Seen) -> None:
    """A createRuntime hook finds the container's namespaces by the pid of its state."""
    log = log_of(box)
    script = f"pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); readlink /proc/$pid/ns/net >> {log}"
    box.run(hooked("sh", "-c", "readlink /proc/self/ns/net >> /data/log", createRuntime=[sh(script)]))
    said = lines_of(box)
    assert seen((len(said), len(set(said)))) == (2, 1)
