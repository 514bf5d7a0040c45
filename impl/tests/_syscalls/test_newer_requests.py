"""Requests to descriptors of processes and namespaces, and flags of newer kernels: numbers, sizes and notes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from errno import ENOTTY

import pytest

from kernelproof.impl._syscalls import landlock_newer, nsfs_newer, pidfd_info
from kernelproof.impl._syscalls.accepting import accept4
from kernelproof.impl._syscalls.nsfs_newer import NsRequest
from kernelproof.impl._syscalls.pidfd_info import ProcessNamespace
from kernelproof.impl._syscalls.statmount import statmount_in, statmount_of_fd


def number(direction: int, kind: int, place: int, size: int) -> int:
    """A request's number, asm-generic/ioctl.h."""
    return direction << 30 | size << 16 | kind << 8 | place


def test_numbers_of_requests() -> None:
    """Requests have the numbers that the kernel's macros make."""
    read = 2
    assert number(read, 0xB7, 5, 8) == NsRequest.GET_MNTNS_ID
    assert number(read, 0xB7, 6, 4) == NsRequest.GET_PID_FROM_PIDNS
    assert number(read, 0xB7, 8, 4) == NsRequest.GET_PID_IN_PIDNS
    assert number(read, 0xB7, 10, 16) == NsRequest.MNT_GET_INFO
    assert number(read, 0xB7, 13, 8) == NsRequest.GET_ID
    assert number(0, 0xFF, 10, 0) == ProcessNamespace.UTS


@pytest.fixture
def pipe() -> Iterator[int]:
    """A descriptor that is neither of a process nor of a namespace."""
    reader, writer = os.pipe()
    yield reader
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        pytest.param(pidfd_info.read_process_info, "PIDFD_GET_INFO", id="info"),
        pytest.param(pidfd_info.supported_info, "PIDFD_GET_INFO", id="supported"),
        pytest.param(
            lambda fd: pidfd_info.open_namespace_of(fd, ProcessNamespace.UTS), "PIDFD_GET_UTS_NAMESPACE", id="namespace"
        ),
        pytest.param(nsfs_newer.namespace_id, "NS_GET_ID", id="id"),
        pytest.param(nsfs_newer.mount_namespace_id, "NS_GET_MNTNS_ID", id="mount-id"),
        pytest.param(nsfs_newer.mount_namespace_info, "NS_MNT_GET_INFO", id="mount-info"),
        pytest.param(lambda fd: nsfs_newer.pid_from(fd, 1), "NS_GET_PID_FROM_PIDNS", id="pid-from"),
        pytest.param(lambda fd: nsfs_newer.pid_in(fd, 1), "NS_GET_PID_IN_PIDNS", id="pid-in"),
    ],
)
def test_another_descriptor_is_refused(pipe: int, call: Callable[[int], object], name: str) -> None:
    """A pipe has none of these requests, and the error names the one that was made."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 its number is checked
        call(pipe)
    assert caught.value.errno == ENOTTY
    assert name in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: landlock_newer.read_errata(size=8), id="errata"),
        pytest.param(lambda: landlock_newer.add_quiet_path(900, 901, 1), id="quiet"),
        pytest.param(lambda: statmount_of_fd(900, 1, bytearray(16)), id="by-fd"),
        pytest.param(lambda: statmount_in(900, 1, 1, bytearray(16)), id="in-namespace"),
        pytest.param(lambda: accept4(900), id="accept"),
    ],
)
def test_refusals_name_the_call(call: Callable[[], object]) -> None:
    """Whatever a kernel refuses these with, the note shows the call and its arguments."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 kernels differ
        call()
    assert "(" in caught.value.__notes__[0]
