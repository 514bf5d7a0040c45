"""seccomp of a configuration, by what a program's calls come to."""

from __future__ import annotations

import json
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.conformance.libcontainer.acting import REFUSED, config, value_of

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.acting import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


def killing(box: Box, *signals: int, **filter: object) -> list[str]:
    """What becomes of kill(2) with some signals, of a process that does not exist."""
    text = "; ".join(f"kill -{number} 4000000 2>&1" for number in signals)
    said = box.script(f"{text}; exit 0", linux={"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", **filter}})
    return [line.rpartition(": ")[2] for line in said]


def rule(op: str, value: int, **more: int) -> list[dict[str, object]]:
    """A filter that gives EIO for kill(2) whose signal compares so."""
    args = [{"index": 1, "value": value, "op": op, **more}]
    return [{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": args}]


NONE, EIO, EPERM = "No such process", "Input/output error", "Operation not permitted"


def listened(box: Box) -> tuple[dict[str, Any], int]:
    """What arrives at a listener: the state of the container's process, and how many descriptors."""
    path = str(box.bundle / "listener")
    syscalls = [{"names": ["kill"], "action": "SCMP_ACT_NOTIFY"}]
    wanted = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls, "listenerPath": path, "listenerMetadata": "meta"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(path)
        server.listen()
        server.settimeout(30)
        box.create(config("true", linux={"seccomp": wanted}, annotations={"com.example.a": "b"}))
        box.start()
        connection, _ = server.accept()
        with connection:
            text, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 10)
    for descriptor in descriptors:
        os.close(descriptor)
    box.delete(force=True)
    found: dict[str, Any] = json.loads(text)
    return found, len(descriptors)


@behaviour("oci.seccomp.errno-default")
def test_seccomp_errno_default(box: Box, seen: Seen) -> None:
    """The action SCMP_ACT_ERRNO without errnoRet gives EPERM."""
    assert seen(killing(box, 9, syscalls=[{"names": ["kill"], "action": "SCMP_ACT_ERRNO"}])) == [EPERM]


@behaviour("oci.seccomp.errno-ret")
def test_seccomp_errno_ret(box: Box, seen: Seen) -> None:
    """errnoRet is the error number that SCMP_ACT_ERRNO gives."""
    assert seen(killing(box, 9, syscalls=[{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}])) == [EIO]


@behaviour("oci.seccomp.allow")
def test_seccomp_allow(box: Box, seen: Seen) -> None:
    """The action SCMP_ACT_ALLOW lets a call be made."""
    assert seen(killing(box, 9, syscalls=[{"names": ["kill"], "action": "SCMP_ACT_ALLOW"}])) == [NONE]


@behaviour("oci.seccomp.log")
def test_seccomp_log(box: Box, seen: Seen) -> None:
    """The action SCMP_ACT_LOG lets a call be made."""
    assert seen(killing(box, 9, syscalls=[{"names": ["kill"], "action": "SCMP_ACT_LOG"}])) == [NONE]


@behaviour("oci.seccomp.kill")
def test_seccomp_kill(box: Box, seen: Seen) -> None:
    """The action SCMP_ACT_KILL ends a program that makes the call by SIGSYS."""
    linux = {
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_KILL"}]}
    }
    said = box.script("sh -c 'kill -9 4000000; echo went on' 2> /dev/null; echo $?", linux=linux)
    assert seen(said[-1:]) == [str(128 + signal.SIGSYS)]


@behaviour("oci.seccomp.kill-process")
def test_seccomp_kill_process(box: Box, seen: Seen) -> None:
    """The action SCMP_ACT_KILL_PROCESS ends a program that makes the call by SIGSYS."""
    linux = {
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_KILL_PROCESS"}],
        }
    }
    said = box.script("sh -c 'kill -9 4000000; echo went on' 2> /dev/null; echo $?", linux=linux)
    assert seen(said[-1:]) == [str(128 + signal.SIGSYS)]


@behaviour("oci.seccomp.kill-thread")
def test_seccomp_kill_thread(box: Box, seen: Seen) -> None:
    """The action SCMP_ACT_KILL_THREAD ends a program that makes the call by SIGSYS."""
    linux = {
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_KILL_THREAD"}],
        }
    }
    said = box.script("sh -c 'kill -9 4000000; echo went on' 2> /dev/null; echo $?", linux=linux)
    assert seen(said[-1:]) == [str(128 + signal.SIGSYS)]


@behaviour("oci.seccomp.trap")
def test_seccomp_trap(box: Box, seen: Seen) -> None:
    """The action SCMP_ACT_TRAP ends a program that makes the call by SIGSYS."""
    linux = {
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_TRAP"}]}
    }
    said = box.script("sh -c 'kill -9 4000000; echo went on' 2> /dev/null; echo $?", linux=linux)
    assert seen(said[-1:]) == [str(128 + signal.SIGSYS)]


@behaviour("oci.seccomp.op-eq")
def test_seccomp_op_eq(box: Box, seen: Seen) -> None:
    """SCMP_CMP_EQ compares an argument of the call with value."""
    assert seen(killing(box, 9, 10, 11, syscalls=rule("SCMP_CMP_EQ", 10))) == [NONE, EIO, NONE]


@behaviour("oci.seccomp.op-ne")
def test_seccomp_op_ne(box: Box, seen: Seen) -> None:
    """SCMP_CMP_NE compares an argument of the call with value."""
    assert seen(killing(box, 9, 10, 11, syscalls=rule("SCMP_CMP_NE", 10))) == [EIO, NONE, EIO]


@behaviour("oci.seccomp.op-lt")
def test_seccomp_op_lt(box: Box, seen: Seen) -> None:
    """SCMP_CMP_LT compares an argument of the call with value."""
    assert seen(killing(box, 9, 10, 11, syscalls=rule("SCMP_CMP_LT", 10))) == [EIO, NONE, NONE]


@behaviour("oci.seccomp.op-le")
def test_seccomp_op_le(box: Box, seen: Seen) -> None:
    """SCMP_CMP_LE compares an argument of the call with value."""
    assert seen(killing(box, 9, 10, 11, syscalls=rule("SCMP_CMP_LE", 10))) == [EIO, EIO, NONE]


@behaviour("oci.seccomp.op-ge")
def test_seccomp_op_ge(box: Box, seen: Seen) -> None:
    """SCMP_CMP_GE compares an argument of the call with value."""
    assert seen(killing(box, 9, 10, 11, syscalls=rule("SCMP_CMP_GE", 10))) == [NONE, EIO, EIO]


@behaviour("oci.seccomp.op-gt")
def test_seccomp_op_gt(box: Box, seen: Seen) -> None:
    """SCMP_CMP_GT compares an argument of the call with value."""
    assert seen(killing(box, 9, 10, 11, syscalls=rule("SCMP_CMP_GT", 10))) == [NONE, NONE, EIO]


@behaviour("oci.seccomp.op-masked-eq")
def test_seccomp_op_masked_eq(box: Box, seen: Seen) -> None:
    """SCMP_CMP_MASKED_EQ compares the bits of value of an argument with valueTwo."""
    assert seen(killing(box, 8, 9, 10, 11, syscalls=rule("SCMP_CMP_MASKED_EQ", 1, valueTwo=1))) == [
        NONE,
        EIO,
        NONE,
        EIO,
    ]


@behaviour("oci.seccomp.args-all")
def test_seccomp_args_all(box: Box, seen: Seen) -> None:
    """A rule with several arguments holds for a call where all of them compare so."""
    args = [{"index": 0, "value": 4000000, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}]
    syscalls = [{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": args}]
    assert seen(killing(box, 9, 10, syscalls=syscalls)) == [EIO, NONE]


@behaviour("oci.seccomp.several-names")
def test_seccomp_several_names(box: Box, seen: Seen) -> None:
    """A rule holds for each call that it names."""
    syscalls = [{"names": ["mkdir", "mkdirat", "kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}]
    linux = {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls}}
    said = box.script("mkdir /tmp/made 2>&1; kill -9 4000000 2>&1; exit 0", linux=linux)
    assert seen([line.rpartition(": ")[2] for line in said]) == [EIO, EIO]


@behaviour("oci.seccomp.status")
def test_seccomp_status(box: Box, seen: Seen) -> None:
    """A container with seccomp runs under a filter."""
    assert (
        seen(
            box.said(
                "grep",
                "^Seccomp:",
                "/proc/self/status",
                linux={
                    "seccomp": {
                        "defaultAction": "SCMP_ACT_ALLOW",
                        "syscalls": [{"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO"}],
                    }
                },
            )
        )
        == "Seccomp:\t2\n"
    )


@behaviour("oci.seccomp.absent")
def test_seccomp_absent(box: Box, seen: Seen) -> None:
    """A container without seccomp runs under no filter."""
    assert seen(value_of(box, "Seccomp")) == "0"


@behaviour("oci.seccomp.architectures")
def test_seccomp_architectures(box: Box, seen: Seen) -> None:
    """A filter for the native architecture holds for its calls."""
    assert seen(
        killing(
            box,
            9,
            architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            syscalls=[{"names": ["kill"], "action": "SCMP_ACT_ERRNO"}],
        )
    ) == [EPERM]


@behaviour("oci.seccomp.flags")
def test_seccomp_flags(box: Box, seen: Seen) -> None:
    """The flag SECCOMP_FILTER_FLAG_LOG is taken."""
    assert seen(
        killing(box, 9, flags=["SECCOMP_FILTER_FLAG_LOG"], syscalls=[{"names": ["kill"], "action": "SCMP_ACT_ERRNO"}])
    ) == [EPERM]


@behaviour("oci.seccomp.exec")
def test_seccomp_exec(box: Box, seen: Seen) -> None:
    """A further process is under the container's filter."""
    syscalls = [{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}]
    box.begin(config("sleep", "1000", linux={"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls}}))
    said = box.execute(["sh", "-c", "kill -9 4000000 2>&1; exit 0"]).output
    box.delete(force=True)
    assert seen(said.strip().rpartition(": ")[2]) == EIO


@behaviour("oci.seccomp.default-action-required")
def test_seccomp_default_action_required(box: Box, seen: Seen) -> None:
    """A filter without defaultAction is refused by create."""
    assert seen(box.answer(config("true", linux={"seccomp": {"syscalls": []}}))) == REFUSED


@behaviour("oci.seccomp.action-unknown")
def test_seccomp_action_unknown(box: Box, seen: Seen) -> None:
    """An unknown action is refused by create."""
    assert (
        seen(
            box.answer(
                config(
                    "true",
                    linux={
                        "seccomp": {
                            "defaultAction": "SCMP_ACT_ALLOW",
                            "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_UNHEARD"}],
                        }
                    },
                )
            )
        )
        == REFUSED
    )


@behaviour("oci.seccomp.default-action-unknown")
def test_seccomp_default_action_unknown(box: Box, seen: Seen) -> None:
    """An unknown defaultAction is refused by create."""
    assert seen(box.answer(config("true", linux={"seccomp": {"defaultAction": "SCMP_ACT_UNHEARD"}}))) == REFUSED


@behaviour("oci.seccomp.operator-unknown")
def test_seccomp_operator_unknown(box: Box, seen: Seen) -> None:
    """An unknown operator is refused by create."""
    assert (
        seen(
            box.answer(
                config(
                    "true",
                    linux={
                        "seccomp": {
                            "defaultAction": "SCMP_ACT_ALLOW",
                            "syscalls": [
                                {
                                    "names": ["kill"],
                                    "action": "SCMP_ACT_ERRNO",
                                    "args": [{"index": 1, "value": 1, "op": "SCMP_CMP_UNHEARD"}],
                                }
                            ],
                        }
                    },
                )
            )
        )
        == REFUSED
    )


@behaviour("oci.seccomp.architecture-unknown")
def test_seccomp_architecture_unknown(box: Box, seen: Seen) -> None:
    """An unknown architecture is refused by create."""
    assert (
        seen(
            box.answer(
                config(
                    "true",
                    linux={
                        "seccomp": {
                            "defaultAction": "SCMP_ACT_ALLOW",
                            "architectures": ["SCMP_ARCH_UNHEARD"],
                            "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ERRNO"}],
                        }
                    },
                )
            )
        )
        == REFUSED
    )


@behaviour("oci.seccomp.flag-unknown")
def test_seccomp_flag_unknown(box: Box, seen: Seen) -> None:
    """An unknown flag is refused by create."""
    assert (
        seen(
            box.answer(
                config(
                    "true",
                    linux={
                        "seccomp": {
                            "defaultAction": "SCMP_ACT_ALLOW",
                            "flags": ["SECCOMP_FILTER_FLAG_UNHEARD"],
                            "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ERRNO"}],
                        }
                    },
                )
            )
        )
        == REFUSED
    )


@behaviour("oci.seccomp.names-empty")
def test_seccomp_names_empty(box: Box, seen: Seen) -> None:
    """A rule that names no call is refused by create."""
    assert (
        seen(
            box.answer(
                config(
                    "true",
                    linux={
                        "seccomp": {
                            "defaultAction": "SCMP_ACT_ALLOW",
                            "syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}],
                        }
                    },
                )
            )
        )
        == REFUSED
    )


@behaviour("oci.seccomp.names-required")
def test_seccomp_names_required(box: Box, seen: Seen) -> None:
    """A rule without names is refused by create."""
    assert (
        seen(
            box.answer(
                config(
                    "true",
                    linux={"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ERRNO"}]}},
                )
            )
        )
        == REFUSED
    )


@behaviour("oci.seccomp.errno-of-allow")
def test_seccomp_errno_of_allow(box: Box, seen: Seen) -> None:
    """errnoRet beside an action that gives no error number is refused by create."""
    assert (
        seen(
            box.answer(
                config(
                    "true",
                    linux={
                        "seccomp": {
                            "defaultAction": "SCMP_ACT_ALLOW",
                            "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_KILL", "errnoRet": 5}],
                        }
                    },
                )
            )
        )
        == REFUSED
    )


@behaviour("oci.seccomp.default-errno-of-allow")
def test_seccomp_default_errno_of_allow(box: Box, seen: Seen) -> None:
    """defaultErrnoRet beside a defaultAction that gives no error number is refused by create."""
    assert (
        seen(
            box.answer(
                config(
                    "true",
                    linux={
                        "seccomp": {
                            "defaultAction": "SCMP_ACT_ALLOW",
                            "defaultErrnoRet": 5,
                            "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ERRNO"}],
                        }
                    },
                )
            )
        )
        == REFUSED
    )


@behaviour("oci.seccomp.metadata-without-path")
def test_seccomp_metadata_without_path(box: Box, seen: Seen) -> None:
    """listenerMetadata without listenerPath is refused by create."""
    assert (
        seen(
            box.answer(
                config(
                    "true",
                    linux={
                        "seccomp": {
                            "defaultAction": "SCMP_ACT_ALLOW",
                            "listenerMetadata": "x",
                            "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ERRNO"}],
                        }
                    },
                )
            )
        )
        == REFUSED
    )


@behaviour("oci.seccomp.index-range")
def test_seccomp_index_range(box: Box, seen: Seen) -> None:
    """An argument that no call has is refused by create."""
    assert (
        seen(
            box.answer(
                config(
                    "true",
                    linux={
                        "seccomp": {
                            "defaultAction": "SCMP_ACT_ALLOW",
                            "syscalls": [
                                {
                                    "names": ["kill"],
                                    "action": "SCMP_ACT_ERRNO",
                                    "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}],
                                }
                            ],
                        }
                    },
                )
            )
        )
        == REFUSED
    )


@behaviour("oci.seccomp-listener.descriptor")
def test_seccomp_listener_descriptor(box: Box, seen: Seen) -> None:
    """A listener gets the descriptor of the filter, named seccompFd."""
    found, number = listened(box)
    assert seen((found["fds"], number)) == (["seccompFd"], 1)


@behaviour("oci.seccomp-listener.metadata")
def test_seccomp_listener_metadata(box: Box, seen: Seen) -> None:
    """A listener gets listenerMetadata."""
    found, _ = listened(box)
    assert seen(found["metadata"]) == "meta"


@behaviour("oci.seccomp-listener.state")
def test_seccomp_listener_state(box: Box, seen: Seen) -> None:
    """A listener gets the container's state."""
    found, _ = listened(box)
    assert seen((found["state"]["id"], found["state"]["annotations"])) == ("box", {"com.example.a": "b"})


@behaviour("oci.seccomp-listener.pid")
def test_seccomp_listener_pid(box: Box, seen: Seen) -> None:
    """A listener gets the pid of the container's process."""
    found, _ = listened(box)
    assert seen(isinstance(found["pid"], int) and found["pid"] > 0) is True


@behaviour("oci.seccomp-listener.version")
def test_seccomp_listener_version(box: Box, seen: Seen) -> None:
    """A listener gets a version of the specification."""
    found, _ = listened(box)
    assert seen(found["ociVersion"].count(".") >= 2) is True
