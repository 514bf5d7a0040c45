"""Tools that need not be unpacked, for tests of what is made with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

from kernelproof.vm.provision_tools import Tools


@dataclass(frozen=True, slots=True)
class StandInTools(Tools):
    """No bytecode, an index of modules that is none, a zstd that takes off what stands before a full stop."""

    def invoke(self, name: str, words: Sequence[str], data: bytes) -> CompletedProcess[bytes]:
        """Do as depmod and `zstd -d -r --rm FOLDER` would; nothing for others."""
        if name == "depmod":
            (Path(words[1]) / "lib/modules" / words[2] / "modules.dep").write_text("stand-in\n")
        elif name == "zstd" and "-r" in words:
            for path in Path(words[-1]).rglob("*.zst"):
                if path.read_bytes() != b"torn":
                    path.with_suffix("").write_bytes(path.read_bytes().partition(b".")[2])
                path.unlink()
        return CompletedProcess([name, *words], 0, b"", b"")

    @property
    def python(self) -> str:
        """A version."""
        return "3.13"


TOOLS = StandInTools(Path("/none"), "tools")
