"""Needs of file systems and mounts, each asked for by use: nothing of it is mounted where a test could see it."""

from __future__ import annotations

import os
import signal
import warnings
from pathlib import Path
from tempfile import TemporaryFile

from kernelproof.conformance import kernel_calls

# vfs_cap_data of version 2 without a capability in it
_NO_CAPABILITIES = b"\x00\x00\x00\x02" + bytes(16)


def trusted_xattr_missing() -> str | None:
    """The test's filesystem keeps attributes of the class trusted. Returns what is missing, or None."""
    return _xattr_refused("trusted.kernelproof", b"1")


def file_capabilities_missing() -> str | None:
    """The test's filesystem keeps file capabilities (security.capability). Returns what is missing, or None."""
    return _xattr_refused("security.capability", _NO_CAPABILITIES)


def idmapped_tmpfs_missing() -> str | None:
    """A mount of tmpfs can have an ID map. Returns what is missing, or None."""
    context = kernel_calls.open_filesystem("tmpfs")
    try:
        return _mapping_refused(context)
    finally:
        os.close(context)


def v1_controller_missing(controller: str) -> str | None:
    """Control groups of version 1, with a controller if one is named. Returns what is missing, or None."""
    # The last step, which would make a hierarchy, is left out: a hierarchy goes away late and would be in the way.
    try:
        context = kernel_calls.open_filesystem("cgroup")
    except OSError as error:
        return f"no control groups version 1: {error.strerror}"
    try:
        if controller:
            kernel_calls.set_flag(context, controller)
    except OSError as error:
        return f"the kernel offers no version 1 controller {controller}: {error.strerror}"
    finally:
        os.close(context)
    return None


def v2_controller_missing(controller: str) -> str | None:
    """Control groups of version 2, with a controller if one is named. Returns what is missing, or None."""
    try:
        controllers = _unified_controllers()
    except OSError as error:
        return f"no control groups version 2: {error.strerror}"
    if controller and controller not in controllers:
        return f"cgroup.controllers has no {controller}, only {' '.join(controllers) or 'nothing'}"
    return None


def _unified_controllers() -> list[str]:
    context = kernel_calls.open_filesystem("cgroup2")
    try:
        mount = kernel_calls.detached_mount(context)
    finally:
        os.close(context)
    try:
        descriptor = os.open("cgroup.controllers", os.O_RDONLY | os.O_CLOEXEC, dir_fd=mount)
    finally:
        os.close(mount)
    with open(descriptor, encoding="ascii") as file:
        return file.read().split()


def _xattr_refused(name: str, value: bytes) -> str | None:
    with TemporaryFile() as file:
        try:
            os.setxattr(file.fileno(), name, value)
        except OSError as error:
            return f"{name} can't be set in the folder for temporary files: {error.strerror}"
    return None


def _mapping_refused(context: int) -> str | None:
    mount = kernel_calls.detached_mount(context)
    reader, writer = os.pipe()
    with warnings.catch_warnings():  # a thread of faulthandler's holds no lock that the child would want
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _hold_user_namespace(reader, writer)
    os.close(writer)
    try:
        ready = os.read(reader, 1) == b"1"
        if not ready:
            return "no user namespace could be made"
        userns = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            kernel_calls.map_ids(mount, userns)
        finally:
            os.close(userns)
    except OSError as error:
        return f"the IDs of a tmpfs mount can't be mapped: {error.strerror}"
    finally:
        os.close(reader)
        os.close(mount)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return None


def _hold_user_namespace(reader: int, writer: int) -> None:
    os.close(reader)
    try:
        os.unshare(os.CLONE_NEWUSER)  # type: ignore[attr-defined]  # Python 3.12; the guest has a newer one
        for name, text in (("uid_map", "0 0 1"), ("setgroups", "deny"), ("gid_map", "0 0 1")):
            Path("/proc/self", name).write_text(text, encoding="ascii")
        os.write(writer, b"1")
        signal.pause()
    finally:
        os._exit(1)
