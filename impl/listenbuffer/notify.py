"""Telling the service manager: ready, reloading, stopping, and sockets to keep.

Sources: sd_notify(3) (the protocol and its variables), sd_booted(3).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Final

from kernelproof.impl.listenbuffer.errors import InvalidAddress
from kernelproof.impl.listenbuffer.inherit import NAME_MAX, real_fileno

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"


def sd_booted(directory: str | os.PathLike[str] = "/run/systemd/system") -> bool:
    """Tell whether systemd is this system's init."""
    return Path(directory).is_dir() and not Path(directory).is_symlink()


def sd_notify(state: str, *, unset: bool = False, environment: MutableMapping[str, str] | None = None) -> bool:
    """Send a state to the service manager; return False if there is none.

    Raises:
        InvalidAddress: NOTIFY_SOCKET is neither a path, nor an abstract name, nor a vsock address.
        OSError: The socket refuses (ENOENT, ECONNREFUSED, EACCES).
    """
    return _send(state.encode(), [], unset, os.environ if environment is None else environment)


def notify(
    *,
    ready: bool = False,
    reloading: bool = False,
    stopping: bool = False,
    status: str | None = None,
    main_pid: int | None = None,
    sockets: Sequence[socket.socket] = (),
    name: str | None = None,
    remove: str | None = None,
    environment: MutableMapping[str, str] | None = None,
) -> bool:
    """Tell the service manager about this service; return False if there is none.

    Args:
        ready: The service is ready.
        reloading: It reads its configuration again; said with the time, as systemd wants it.
        stopping: It is about to end.
        status: One line for people.
        main_pid: The process that is the service from now on.
        sockets: Sockets for the manager to keep across a restart (FDSTORE).
        name: The name under which they are kept.
        remove: The name under which kept ones are dropped.
        environment: The environment, None for the process's.

    Raises:
        ValueError: The status holds a line end, or the name a colon; or nothing is told.
        InvalidAddress: NOTIFY_SOCKET cannot be an address.
        OSError: The socket refuses.
    """
    if status is not None and "\n" in status:
        raise ValueError("the status is one line")
    told = {
        READY: ready,
        f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}": reloading,
        STOPPING: stopping,
        f"STATUS={status}": status is not None,
        f"MAINPID={main_pid}": main_pid is not None,
        "FDSTORE=1": bool(sockets),
        "FDSTOREREMOVE=1": remove is not None,
    }
    lines = [line for line, wanted in told.items() if wanted]
    lines += [f"FDNAME={_check_name(given)}" for given in (name, remove) if given is not None]
    if not lines:
        raise ValueError("nothing is told")
    chosen = os.environ if environment is None else environment
    return _send("\n".join(lines).encode(), [real_fileno(one) for one in sockets], False, chosen)


def _check_name(name: str) -> str:
    if ":" in name or not name.isprintable() or not 0 < len(name) <= NAME_MAX:
        raise ValueError(f"{name!r} cannot name a descriptor: no colons, 1 to {NAME_MAX} printable characters")
    return name


def _send(message: bytes, descriptors: list[int], unset: bool, environment: MutableMapping[str, str]) -> bool:
    target = environment.get("NOTIFY_SOCKET", "")
    if unset:
        environment.pop("NOTIFY_SOCKET", None)
    if not target:
        return False
    if target.startswith("vsock"):
        return _send_vsock(message, target)
    if target[0] not in "/@":
        raise InvalidAddress(f"NOTIFY_SOCKET={target!r} is neither a path nor an abstract name")
    address = "\0" + target[1:] if target[0] == "@" else target
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(address)
        if descriptors:
            socket.send_fds(sender, [message], descriptors)
        else:
            sender.send(message)
    return True


def _send_vsock(message: bytes, target: str) -> bool:
    kinds = {"vsock": socket.SOCK_DGRAM, "vsock-stream": socket.SOCK_STREAM, "vsock-seqpacket": socket.SOCK_SEQPACKET}
    word, _, rest = target.partition(":")
    cid, _, port = rest.partition(":")
    if word not in kinds or not cid.isdigit() or not port.isdigit() or not hasattr(socket, "AF_VSOCK"):
        raise InvalidAddress(f"NOTIFY_SOCKET={target!r} is no vsock address of this system")
    kind = socket.SOCK_SEQPACKET if word == "vsock" else kinds[word]
    with socket.socket(socket.AF_VSOCK, kind) as sender:
        sender.connect((int(cid), int(port)))
        sender.sendall(message)
    return True
