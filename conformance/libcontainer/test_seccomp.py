"""seccomp of a configuration, by what a program's calls come to."""

from __future__ import annotations

import json
import os
import signal
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from kernelproof import behaviour, behaviour_row
from kernelproof.conformance.libcontainer.box import REFUSED, SECONDS
from kernelproof.conformance.libcontainer.configs import config
from kernelproof.conformance.libcontainer.observing import reason_of, value_of

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]

NONE, EIO, EPERM = "No such process", "Input/output error", "Operation not permitted"
ERRNO = {"names": ["kill"], "action": "SCMP_ACT_ERRNO"}


def allowing(**members: object) -> dict[str, object]:
    """A filter that allows all but what its members say."""
    return {"defaultAction": "SCMP_ACT_ALLOW", **members}


def acting(action: str, **members: object) -> list[dict[str, object]]:
    """A rule for kill(2)."""
    return [{"names": ["kill"], "action": action, **members}]


def comparing(op: str, value: int, index: int = 1, **more: int) -> dict[str, object]:
    """An argument of a rule: kill(2) has a process and a signal."""
    return {"index": index, "value": value, "op": op, **more}


def killing(box: Box, *signals: int, **members: object) -> list[str]:
    """What becomes of kill(2) with some signals, of a process that does not exist."""
    text = "; ".join(f"kill -{number} 4000000 2>&1" for number in signals)
    return [reason_of(line) for line in box.script(f"{text}; exit 0", linux={"seccomp": allowing(**members)})]


@pytest.mark.parametrize(
    ("members", "answer"),
    [
        behaviour_row("oci.seccomp.errno-default", {"syscalls": acting("SCMP_ACT_ERRNO")}, EPERM),
        behaviour_row("oci.seccomp.errno-ret", {"syscalls": acting("SCMP_ACT_ERRNO", errnoRet=5)}, EIO),
        behaviour_row("oci.seccomp.allow", {"syscalls": acting("SCMP_ACT_ALLOW")}, NONE),
        behaviour_row("oci.seccomp.log", {"syscalls": acting("SCMP_ACT_LOG")}, NONE),
        behaviour_row("oci.seccomp.flags", {"flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": [ERRNO]}, EPERM),
        behaviour_row(
            "oci.seccomp.architectures",
            {"architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": [ERRNO]},
            EPERM,
        ),
    ],
)
def test_call_is_answered(box: Box, seen: Seen, members: dict[str, object], answer: str) -> None:
    """A program that makes the call gets what the filter says: an error number, or the kernel's own answer."""
    assert seen(killing(box, 9, **members)) == [answer]


@pytest.mark.parametrize(
    "action",
    [
        behaviour_row("oci.seccomp.kill", "SCMP_ACT_KILL"),
        behaviour_row("oci.seccomp.kill-process", "SCMP_ACT_KILL_PROCESS"),
        behaviour_row("oci.seccomp.kill-thread", "SCMP_ACT_KILL_THREAD"),
        behaviour_row("oci.seccomp.trap", "SCMP_ACT_TRAP"),
    ],
)
def test_call_ends_program(box: Box, seen: Seen, action: str) -> None:
    """The action ends a program that makes the call by SIGSYS."""
    text = "sh -c 'kill -9 4000000; echo went on' 2> /dev/null; echo $?"
    said = box.script(text, linux={"seccomp": allowing(syscalls=acting(action))})
    assert seen(said[-1:]) == [str(128 + signal.SIGSYS)]


@pytest.mark.parametrize(
    ("argument", "signals", "answers"),
    [
        behaviour_row("oci.seccomp.op-eq", comparing("SCMP_CMP_EQ", 10), (9, 10, 11), [NONE, EIO, NONE]),
        behaviour_row("oci.seccomp.op-ne", comparing("SCMP_CMP_NE", 10), (9, 10, 11), [EIO, NONE, EIO]),
        behaviour_row("oci.seccomp.op-lt", comparing("SCMP_CMP_LT", 10), (9, 10, 11), [EIO, NONE, NONE]),
        behaviour_row("oci.seccomp.op-le", comparing("SCMP_CMP_LE", 10), (9, 10, 11), [EIO, EIO, NONE]),
        behaviour_row("oci.seccomp.op-ge", comparing("SCMP_CMP_GE", 10), (9, 10, 11), [NONE, EIO, EIO]),
        behaviour_row("oci.seccomp.op-gt", comparing("SCMP_CMP_GT", 10), (9, 10, 11), [NONE, NONE, EIO]),
        behaviour_row(
            "oci.seccomp.op-masked-eq",
            comparing("SCMP_CMP_MASKED_EQ", 1, valueTwo=1),
            (8, 9, 10, 11),
            [NONE, EIO, NONE, EIO],
        ),
    ],
)
def test_operator(
    box: Box, seen: Seen, argument: dict[str, object], signals: tuple[int, ...], answers: list[str]
) -> None:
    """A rule holds for the calls whose argument compares so with its value, and for no others."""
    assert seen(killing(box, *signals, syscalls=acting("SCMP_ACT_ERRNO", errnoRet=5, args=[argument]))) == answers


@behaviour("oci.seccomp.args-all")
def test_all_arguments(box: Box, seen: Seen) -> None:
    """A rule with several arguments holds for a call where all of them compare so."""
    args = [comparing("SCMP_CMP_EQ", 4000000, index=0), comparing("SCMP_CMP_EQ", 9)]
    assert seen(killing(box, 9, 10, syscalls=acting("SCMP_ACT_ERRNO", errnoRet=5, args=args))) == [EIO, NONE]


@behaviour("oci.seccomp.several-names")
def test_several_names(box: Box, seen: Seen) -> None:
    """A rule holds for each call that it names."""
    syscalls = [{"names": ["mkdir", "mkdirat", "kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}]
    said = box.script(
        "mkdir /tmp/made 2>&1; kill -9 4000000 2>&1; exit 0", linux={"seccomp": allowing(syscalls=syscalls)}
    )
    assert seen([reason_of(line) for line in said]) == [EIO, EIO]


@behaviour("oci.seccomp.status")
def test_status(box: Box, seen: Seen) -> None:
    """A container with seccomp runs under a filter."""
    linux = {"seccomp": allowing(syscalls=[{"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO"}])}
    assert seen(box.said("grep", "^Seccomp:", "/proc/self/status", linux=linux)) == "Seccomp:\t2\n"


@behaviour("oci.seccomp.absent")
def test_absent(box: Box, seen: Seen) -> None:
    """A container without seccomp runs under no filter."""
    assert seen(value_of(box, "Seccomp")) == "0"


@behaviour("oci.seccomp.exec")
def test_further_process(box: Box, seen: Seen) -> None:
    """A further process is under the container's filter."""
    seccomp = allowing(syscalls=acting("SCMP_ACT_ERRNO", errnoRet=5))
    box.begin(config("sleep", "1000", linux={"seccomp": seccomp}))
    said = box.execute(["sh", "-c", "kill -9 4000000 2>&1; exit 0"]).output
    box.delete(force=True)
    assert seen(reason_of(said)) == EIO


UNHEARD_OPERATOR = acting("SCMP_ACT_ERRNO", args=[comparing("SCMP_CMP_UNHEARD", 1)])
SEVENTH_ARGUMENT = acting("SCMP_ACT_ERRNO", args=[comparing("SCMP_CMP_EQ", 1, index=6)])


@pytest.mark.parametrize(
    "seccomp",
    [
        behaviour_row("oci.seccomp.default-action-required", {"syscalls": []}),
        behaviour_row("oci.seccomp.default-action-unknown", {"defaultAction": "SCMP_ACT_UNHEARD"}),
        behaviour_row("oci.seccomp.action-unknown", allowing(syscalls=acting("SCMP_ACT_UNHEARD"))),
        behaviour_row("oci.seccomp.operator-unknown", allowing(syscalls=UNHEARD_OPERATOR)),
        behaviour_row(
            "oci.seccomp.architecture-unknown",
            allowing(architectures=["SCMP_ARCH_UNHEARD"], syscalls=[ERRNO]),
        ),
        behaviour_row("oci.seccomp.flag-unknown", allowing(flags=["SECCOMP_FILTER_FLAG_UNHEARD"], syscalls=[ERRNO])),
        behaviour_row("oci.seccomp.names-empty", allowing(syscalls=[{**ERRNO, "names": []}])),
        behaviour_row("oci.seccomp.names-required", allowing(syscalls=[{"action": "SCMP_ACT_ERRNO"}])),
        behaviour_row("oci.seccomp.errno-of-allow", allowing(syscalls=acting("SCMP_ACT_KILL", errnoRet=5))),
        behaviour_row("oci.seccomp.default-errno-of-allow", allowing(defaultErrnoRet=5, syscalls=[ERRNO])),
        behaviour_row("oci.seccomp.metadata-without-path", allowing(listenerMetadata="x", syscalls=[ERRNO])),
        behaviour_row("oci.seccomp.index-range", allowing(syscalls=SEVENTH_ARGUMENT)),
    ],
)
def test_filter_is_refused(box: Box, seen: Seen, seccomp: dict[str, object]) -> None:
    """A filter that lacks what is required, or names what does not exist, is refused by create."""
    assert seen(box.answer(config("true", linux={"seccomp": seccomp}))) == REFUSED


class Heard(NamedTuple):
    """What arrives at a listener: the state of the container's process, and how many descriptors; and its pid."""

    state: dict[str, Any]
    descriptors: int
    pid: int


def listened(box: Box) -> Heard:
    """What comes of a container with a listener."""
    path = str(box.bundle / "listener")
    seccomp = allowing(syscalls=acting("SCMP_ACT_NOTIFY"), listenerPath=path, listenerMetadata="meta")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(path)
        server.listen()
        server.settimeout(SECONDS)
        box.create(config("true", linux={"seccomp": seccomp}, annotations={"com.example.a": "b"}))
        pid = box.pid()
        box.start()
        connection, _ = server.accept()
        with connection:
            text, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 10)
    for descriptor in descriptors:
        os.close(descriptor)
    box.delete(force=True)
    return Heard(json.loads(text), len(descriptors), pid)


@behaviour("oci.seccomp-listener.descriptor")
def test_listener_gets_descriptor(box: Box, seen: Seen) -> None:
    """A listener gets the descriptor of the filter, named seccompFd."""
    heard = listened(box)
    assert seen((heard.state["fds"], heard.descriptors)) == (["seccompFd"], 1)


@behaviour("oci.seccomp-listener.metadata")
def test_listener_gets_metadata(box: Box, seen: Seen) -> None:
    """A listener gets listenerMetadata."""
    assert seen(listened(box).state["metadata"]) == "meta"


@behaviour("oci.seccomp-listener.state")
def test_listener_gets_state(box: Box, seen: Seen) -> None:
    """A listener gets the container's state."""
    found = listened(box).state["state"]
    assert seen((found["id"], found["annotations"])) == ("box", {"com.example.a": "b"})


@behaviour("oci.seccomp-listener.pid")
def test_listener_gets_pid(box: Box, seen: Seen) -> None:
    """A listener gets the pid of the container's process."""
    heard = listened(box)
    assert seen(heard.state["pid"] == heard.pid) is True


@behaviour("oci.seccomp-listener.version")
def test_listener_gets_version(box: Box, seen: Seen) -> None:
    """A listener gets a version of the specification."""
    assert seen(listened(box).state["ociVersion"].count(".") >= 2) is True
