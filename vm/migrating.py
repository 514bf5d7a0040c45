"""Lets a QEMU load or save its device state over its monitor; memory stays where it is."""

from __future__ import annotations

import os
from collections.abc import Mapping

from kernelproof.vm.channel import Channel
from kernelproof.vm.qmp import QmpError

CAPABILITIES = [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]
_DESCRIPTOR_NAME = "state"


def migrate(channel: Channel, command: str, road: str, state: int, deadline: float) -> None:
    """Load or save.

    Args:
        channel: To the QEMU.
        command: "migrate" or "migrate-incoming".
        road: As `migration_road` says.
        state: Descriptor of the state file; owned by the caller.
        deadline: By the monotonic clock.

    Raises:
        QmpError, DeadlineMissed, Ended, ChannelError: as the channel does; or it did not complete.
    """
    # The `completed` of an earlier migration of this same machine must not be taken for this one's.
    channel.events.clear()
    channel.command("migrate-set-capabilities", {"capabilities": CAPABILITIES}, deadline=deadline)
    path = f"/proc/{os.getpid()}/fd/{state}"
    if road == "fd":
        _send_descriptor(channel, path, os.O_WRONLY if command == "migrate" else os.O_RDONLY, deadline)
    uri = f"fd:{_DESCRIPTOR_NAME}" if road == "fd" else f"file:{path}"
    channel.command(command, {"uri": uri}, deadline=deadline)
    event = channel.wait_for_event("MIGRATION", _is_over, deadline)
    data = event["data"]
    if not isinstance(data, dict) or data.get("status") != "completed":
        raise QmpError(f"{command}: {data!r}")


def _send_descriptor(channel: Channel, path: str, mode: int, deadline: float) -> None:
    own = os.open(path, mode | os.O_CLOEXEC)  # opened anew: clones must not share a file offset
    try:
        channel.command("getfd", {"fdname": _DESCRIPTOR_NAME}, deadline=deadline, descriptor=own)
    finally:
        os.close(own)


def _is_over(data: Mapping[str, object]) -> bool:
    return data.get("status") in ("completed", "failed")
