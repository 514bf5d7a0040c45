"""Hooks: when each kind is called, in which order, and what its failure does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour, behaviour_row
from kernelproof.conformance.libcontainer.box import ACCEPTED, REFUSED
from kernelproof.conformance.libcontainer.hooking import hooked, lines_of, log_for, sh, sh_of_state

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]

KINDS_OF_HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


@behaviour("oci.hooks.order-in-list")
def test_order_in_list(box: Box, seen: Seen) -> None:
    """Hooks of one kind are called in the listed order."""
    log = log_for(box)
    box.run(hooked("true", createRuntime=[sh(f"echo {word} >> {log}") for word in ("one", "two", "three")]))
    assert seen(lines_of(box)) == ["one", "two", "three"]


@behaviour("oci.hooks.order-of-kinds")
def test_order_of_kinds(box: Box, seen: Seen) -> None:
    """Hooks are called in the order prestart, createRuntime, createContainer, startContainer, poststart, poststop."""
    box.create(hooked("true", **{kind: [sh(f"echo {kind} >> {log_for(box, kind)}")] for kind in KINDS_OF_HOOKS}))
    box.start()
    box.wait()
    box.delete()
    assert seen(lines_of(box)) == list(KINDS_OF_HOOKS)


@pytest.mark.parametrize(
    "kind",
    [
        behaviour_row("oci.hooks.prestart-in-create", "prestart"),
        behaviour_row("oci.hooks.createruntime-in-create", "createRuntime"),
        behaviour_row("oci.hooks.createcontainer-in-create", "createContainer"),
    ],
)
def test_called_by_create(box: Box, seen: Seen, kind: str) -> None:
    """Hooks of this kind are called by create."""
    box.create(hooked("true", **{kind: [sh(f"echo called >> {log_for(box)}")]}))
    called = lines_of(box)
    box.delete(force=True)
    assert seen(called) == ["called"]


@behaviour("oci.hooks.startcontainer-in-start")
def test_startcontainer_by_start(box: Box, seen: Seen) -> None:
    """startContainer hooks are called by start, and not by create."""
    box.create(hooked("true", startContainer=[sh("echo called >> /data/log")]))
    before = lines_of(box)
    box.start()
    box.wait()
    box.delete(force=True)
    assert seen((before, lines_of(box))) == ([], ["called"])


@behaviour("oci.hooks.startcontainer-before-program")
def test_startcontainer_before_program(box: Box, seen: Seen) -> None:
    """startContainer hooks are called before the container's program."""
    box.run(hooked("sh", "-c", "echo program >> /data/log", startContainer=[sh("echo hook >> /data/log")]))
    assert seen(lines_of(box)) == ["hook", "program"]


@behaviour("oci.hooks.poststart-in-start")
def test_poststart_by_start(box: Box, seen: Seen) -> None:
    """poststart hooks are called before start returns."""
    box.create(hooked("sleep", "1000", poststart=[sh(f"echo called >> {log_for(box)}")]))
    before = lines_of(box)
    box.start()
    after = lines_of(box)
    box.delete(force=True)
    assert seen((before, after)) == ([], ["called"])


@behaviour("oci.hooks.poststart-after-program")
def test_poststart_after_program(box: Box, seen: Seen) -> None:
    """poststart hooks are called when the container's program runs."""
    script = f"pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); cat /proc/$pid/comm >> {log_for(box)}"
    box.create(hooked("sleep", "1000", poststart=[sh_of_state(script)]))
    box.start()
    box.delete(force=True)
    assert seen(lines_of(box)) == ["sleep"]


@behaviour("oci.hooks.poststop-in-delete")
def test_poststop_by_delete(box: Box, seen: Seen) -> None:
    """poststop hooks are called by delete, and not before."""
    box.create(hooked("true", poststop=[sh(f"echo called >> {log_for(box)}")]))
    box.start()
    box.wait()
    before = lines_of(box)
    box.delete()
    assert seen((before, lines_of(box))) == ([], ["called"])


@behaviour("oci.hooks.poststop-after-process")
def test_poststop_after_process(box: Box, seen: Seen) -> None:
    """poststop hooks are called when the container's process is gone."""
    log = log_for(box)
    script = f"cat /proc/$(cat {log}.pid)/comm >> {log} 2>&1; echo end >> {log}"
    pid = box.begin(hooked("sleep", "1000", poststop=[sh(script)]))
    (box.rootfs / "data/log.pid").write_text(str(pid))
    box.kill()
    box.wait()
    box.delete()
    assert seen([line for line in lines_of(box) if line in ("sleep", "end")]) == ["end"]


@pytest.mark.parametrize(
    "hooks",
    [
        behaviour_row("oci.hooks.path-relative", {"createRuntime": [sh("exit 0", path="sh")]}),
        behaviour_row("oci.hooks.path-required", {"createRuntime": [{"args": ["sh", "-c", "exit 0"]}]}),
        behaviour_row("oci.hooks.timeout-zero", {"createRuntime": [sh("exit 0", timeout=0)]}),
        behaviour_row("oci.hooks.timeout-negative", {"poststop": [sh("exit 0", timeout=-1)]}),
        behaviour_row("oci.hooks.timeout", {"createRuntime": [sh("exec sleep 25", timeout=1)]}),
    ],
)
def test_refused(box: Box, seen: Seen, hooks: dict[str, object]) -> None:
    """create refuses a hook without an absolute path or with a timeout that is none, and fails by one that is late."""
    assert seen(box.answer(hooked("true", **hooks))) == REFUSED


@pytest.mark.parametrize(
    "kind",
    [
        behaviour_row("oci.hooks.prestart-fails", "prestart"),
        behaviour_row("oci.hooks.createruntime-fails", "createRuntime"),
        behaviour_row("oci.hooks.createcontainer-fails", "createContainer"),
    ],
)
def test_failing_in_create(box: Box, seen: Seen, kind: str) -> None:
    """A hook of this kind that fails makes create fail, and the container is gone."""
    answer = box.answer(hooked("true", **{kind: [sh("exit 3")]}))
    assert seen((answer, box.does(box.state))) == (REFUSED, REFUSED)


@behaviour("oci.hooks.startcontainer-fails")
def test_failing_in_start(box: Box, seen: Seen) -> None:
    """A startContainer hook that fails makes start fail, and the program never runs."""
    box.create(hooked("touch", "/data/ran", startContainer=[sh("exit 3")]))
    answer = box.does(box.start)
    box.delete(force=True)
    assert seen((answer, (box.rootfs / "data/ran").exists())) == (REFUSED, False)


@behaviour("oci.hooks.poststop-fails")
def test_failing_in_delete(box: Box, seen: Seen) -> None:
    """A poststop hook that fails is no error of delete, and the hooks after it are called."""
    box.begin(hooked("true", poststop=[sh("exit 3"), sh(f"echo second >> {log_for(box)}")]))
    box.wait()
    assert seen((box.does(box.delete), lines_of(box), box.does(box.state))) == (ACCEPTED, ["second"], REFUSED)


@behaviour("oci.hooks.poststop-after-failing-create")
def test_poststop_after_failing_create(box: Box, seen: Seen) -> None:
    """poststop hooks are called when a createRuntime hook made create fail."""
    hooks = {"createRuntime": [sh("exit 3")], "poststop": [sh(f"echo called >> {log_for(box)}")]}
    answer = box.answer(hooked("true", **hooks))
    assert seen((answer, lines_of(box))) == (REFUSED, ["called"])


@behaviour("oci.hooks.later-not-called")
def test_later_is_not_called(box: Box, seen: Seen) -> None:
    """After a createRuntime hook that failed no later one is called; the earlier one was."""
    words = [f"echo {word} >> {log_for(box)}" for word in ("earlier", "later")]
    answer = box.answer(hooked("true", createRuntime=[sh(words[0]), sh("exit 3"), sh(words[1])]))
    assert seen((answer, lines_of(box))) == (REFUSED, ["earlier"])


@behaviour("oci.hooks.stdin-unread")
def test_stdin_is_unread(box: Box, seen: Seen) -> None:
    """A hook that does not read its standard input is no error."""
    assert seen(box.answer(hooked("true", createRuntime=[{"path": "/bin/true"}]))) == ACCEPTED
