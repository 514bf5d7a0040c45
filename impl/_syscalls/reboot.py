"""Ending what runs: reboot(2), which in a PID namespace ends that alone."""

from __future__ import annotations

from enum import IntEnum

from kernelproof.impl._syscalls.libc import BYTES, UINT, Call

_MAGIC, _MAGIC2 = 0xFEE1DEAD, 672274793


class RebootCommand(IntEnum):
    """LINUX_REBOOT_CMD_ constants of reboot(2)."""

    CAD_OFF = 0
    RESTART = 0x01234567
    POWER_OFF = 0x4321FEDC
    CAD_ON = 0x89ABCDEF
    HALT = 0xCDEF0123


_reboot = Call("reboot", raw=True, magic=UINT, magic2=UINT, command=UINT.of(RebootCommand), argument=BYTES)


def reboot(command: int) -> None:
    """Restart, halt or power off; in a PID namespace its process 1 is ended and the machine goes on.

    Raises:
        OSError: EINVAL no such command, or one that a PID namespace has not; EPERM without CAP_SYS_BOOT.

    Source: reboot(2), Behavior inside PID namespaces and ERRORS.
    """
    _reboot(_MAGIC, _MAGIC2, command, None)
