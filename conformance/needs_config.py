"""Needs of the kernel's configuration: an option is built in, or it is a module, which is loaded then.

The configuration is read once a machine, from the file that provisioning lays into the guest, else from
/proc/config.gz.
"""

from __future__ import annotations

import gzip
import platform
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from kernelproof.conformance import kernel_calls

# Modules that are not called like their option.
_MODULES = {"EXT4_FS": "ext4", "OVERLAY_FS": "overlay", "VLAN_8021Q": "8021q", "VSOCKETS": "vsock"}


class MachineLacks(Exception):
    """The machine lacks something that its profile should have."""


class Paths(NamedTuple):
    """Where the guest's data is looked for."""

    root: Path = Path("/")

    @property
    def config(self) -> Path:
        """The config file that provisioning lays into the guest."""
        return self.root / "boot" / f"config-{platform.release()}"

    @property
    def modules(self) -> Path:
        """The folder of the running kernel's modules."""
        return self.root / "lib/modules" / platform.release()

    def read(self, path: str) -> str:
        """Return a file of /proc or /sys; empty where it is not there."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="backslashreplace")
        except OSError:
            return ""


class KernelConfig:
    """The running kernel's configuration and modules.

    Args:
        paths: Where they are looked for.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._text: bytes | None = None

    def read(self) -> bytes:
        """Return the configuration, with a line feed before it; read once.

        Raises:
            MachineLacks: Neither the config file nor /proc/config.gz is there.
        """
        if self._text is None:
            self._text = b"\n" + self._find()
        return self._text

    def missing(self, option: str) -> str | None:
        """Make sure of an option, without its CONFIG_; a module is loaded. Returns what is missing, or None.

        Raises:
            MachineLacks: There is no configuration, or the option's module can't be found or loaded.
        """
        # No pattern: compiling one costs a new machine more than all the rest of a probe.
        line = f"\nCONFIG_{option}=".encode()
        place = self.read().find(line) + len(line)
        if place < len(line):
            return f"the kernel is built without CONFIG_{option}"
        return self._load(option) if self.read()[place : place + 2] == b"m\n" else None

    def _find(self) -> bytes:
        with suppress(FileNotFoundError):
            return self._paths.config.read_bytes()
        with suppress(FileNotFoundError), gzip.open(self._paths.root / "proc/config.gz") as file:
            return file.read()
        raise MachineLacks(
            f"needs the kernel's configuration: there is no {self._paths.config} and no /proc/config.gz; "
            "provision the kernel with its config file, or build it with CONFIG_IKCONFIG_PROC=y"
        )

    def _load(self, option: str) -> str | None:
        name = _MODULES.get(option, option.lower())
        # The kernel verifies a signature before it sees that the module is there: 0.2 s in an emulated machine.
        if (self._paths.root / "sys/module" / name).exists():
            return None
        chain = self._module_chain(option, name)
        for path in reversed(chain):  # what it depends on comes after it in modules.dep
            try:
                self._load_file(path)
            except FileExistsError:
                continue
            except OSError as error:
                raise MachineLacks(f"needs CONFIG_{option}: its module {path} can't be loaded: {error}") from error
        return None

    def _load_file(self, path: Path) -> None:
        if path.suffix == ".ko":
            kernel_calls.load_module(path.read_bytes())
            return
        name = path.name.partition(".")[0]
        done = subprocess.run(["modprobe", name], capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise OSError(None, done.stderr.strip() or f"modprobe {name} ended with {done.returncode}")

    def _module_chain(self, option: str, name: str) -> list[Path]:
        try:
            listed = (self._paths.modules / "modules.dep").read_bytes()
        except OSError as error:
            raise MachineLacks(f"needs CONFIG_{option}, a module: {error}; run depmod for the guest's root") from error
        pattern = rb"(?m)^(\S*/" + name.encode().replace(b"_", b"[_-]") + rb"\.ko(?:\.[a-z]+)?):(.*)$"
        match = re.search(pattern, listed)
        if match is None:
            raise MachineLacks(
                f"needs CONFIG_{option}: modules.dep lists no module {name!r}; "
                "name it in kernelproof/conformance/needs_config.py if it is called otherwise"
            )
        return [self._paths.modules / part.decode() for part in (match[1], *match[2].split())]
