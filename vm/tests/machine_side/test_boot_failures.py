"""Why a machine did not boot, from consoles as they were seen."""

from __future__ import annotations

import pytest

from kernelproof.vm.base import scale_to_load
from kernelproof.vm.boot_failures import explain_boot
from kernelproof.vm.guest.boot_words import BOOT_FAILED, NO_CONSOLE

FIRMWARE = "SeaBIOS (version 1.16.3-debian-1.16.3-2)\nBooting from ROM.."


@pytest.mark.parametrize(
    ("console", "meaning", "remedy"),
    [
        (f"{FIRMWARE}{BOOT_FAILED} LookupError: {NO_CONSOLE}\n", NO_CONSOLE, "CONFIG_VIRTIO_CONSOLE=y"),
        (
            f"{BOOT_FAILED} OSError: [Errno 19] No such device\n",
            "failed: OSError: [Errno 19] No such device",
            "console",
        ),
        ("Initramfs unpacking failed: invalid magic at start", "could not unpack the initramfs", "make that root anew"),
        ("panic - not syncing: VFS: Unable to mount root fs on", "took no initramfs", "CONFIG_BLK_DEV_INITRD=y"),
        ("Requested init /init failed (error -8).", "can't run a script", "CONFIG_BINFMT_SCRIPT=y"),
        ("Requested init /init failed (error -2).", "no /bin/sh that runs here", "make that root anew"),
        (
            "not syncing: Attempted to kill init! exitcode=0x00007f00",
            "its Python does not start",
            "lines before the panic",
        ),
        (FIRMWARE, "it printed nothing", "CONFIG_SERIAL_8250_CONSOLE=y"),
        ("", "it printed nothing", "CONFIG_SERIAL_8250_CONSOLE=y"),
        (f"{FIRMWARE}[    1.0] something else", "", "try another --kernel"),
    ],
)
def test_explanations(console: str, meaning: str, remedy: str) -> None:
    """Each sign has a meaning and a remedy; silence and the unknown have one too."""
    explained = explain_boot(console)
    assert meaning in explained[0]
    assert remedy in explained[1]


@pytest.mark.parametrize(
    ("load", "cpus", "seconds"), [(0.0, 2, 10), (2.0, 2, 10), (6.0, 2, 30), (99.0, 2, 50), (3.0, None, 30)]
)
def test_busy_host(load: float, cpus: int | None, seconds: float) -> None:
    """A boot has more time where many want to run, but not for ever."""
    assert scale_to_load(10, load, cpus) == seconds
