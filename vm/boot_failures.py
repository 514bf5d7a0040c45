"""Says why a machine did not boot, from its console. Pure."""

from __future__ import annotations

from kernelproof.vm.guest.boot_words import BOOT_FAILED, NO_CONSOLE

_LISTS = "`kernelproof doctor --kernel-image PATH` lists all that is missing"
_ROOT = "make that root anew; `kernelproof clean` removes ours, which is fetched again"

# What the console says, what it means, what helps: the first that is there is told.
_SIGNS = (
    (
        NO_CONSOLE,
        NO_CONSOLE,
        f"set CONFIG_VIRTIO_PCI=y and CONFIG_VIRTIO_CONSOLE=y, or give them as modules with --modules; {_LISTS}",
    ),
    (BOOT_FAILED, "the init of the guest failed", "read the last lines of its console"),
    (
        "Initramfs unpacking failed",
        "the kernel could not unpack the initramfs: the guest's root is damaged, or does not fit into memory",
        _ROOT,
    ),
    (
        "Unable to mount root fs",
        "the kernel took no initramfs, or found no /init in it",
        f"set CONFIG_BLK_DEV_INITRD=y; {_LISTS}. If it is set: {_ROOT}",
    ),
    (
        "Requested init /init failed (error -8)",
        "the kernel can't run a script",
        f"set CONFIG_BINFMT_SCRIPT=y and CONFIG_BINFMT_ELF=y; {_LISTS}",
    ),
    (
        "Requested init /init failed",
        "the kernel could not start /init: the guest's root has no /bin/sh that runs here, or lacks its libraries",
        _ROOT,
    ),
    (
        "Attempted to kill init",
        "the init of the guest ended: its shell or its Python does not start",
        f"read the lines before the panic; try `python3 -c 'import ctypes, socket'` in that root; {_ROOT}",
    ),
    ("System is deadlocked on memory", "the guest's memory is too small for its root", "use a smaller root"),
)
_SILENT = (
    "it printed nothing",
    f"set CONFIG_SERIAL_8250_CONSOLE=y, and CONFIG_PRINTK=y, to see more; {_LISTS}. "
    "A kernel that stops before its console may need --append earlyprintk=serial",
)
_FIRMWARE = "Booting from ROM.."  # the last that SeaBIOS says; there is none under PVH in some versions
_UNKNOWN = ("", "try another --kernel, or KERNELPROOF_ACCELERATOR=tcg")


def explain_boot(console: str) -> tuple[str, str]:
    """What went wrong, empty if nothing in the console tells, and what helps."""
    for sign, meaning, remedy in _SIGNS:
        if sign in console:
            if sign == BOOT_FAILED:
                meaning = f"{meaning}: {console.rpartition(BOOT_FAILED)[2].splitlines()[0].strip()}"
            return meaning, remedy
    return _UNKNOWN if console.rpartition(_FIRMWARE)[2].strip() else _SILENT
