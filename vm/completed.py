"""A command that ended in a guest, as the host sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kernelproof.vm.guest.commands import OUTPUT_LIMIT
from kernelproof.vm.messages import Plain


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ended.

    Args:
        arguments: What was run.
        returncode: Its exit status, or minus the number of the signal that killed it.
        stdout_bytes: What it wrote, at most 8 MiB.
        stderr_bytes: Likewise.
        cut_bytes: How many bytes of both were left out for being too many.
    """

    arguments: tuple[str, ...]
    returncode: int
    stdout_bytes: bytes
    stderr_bytes: bytes
    cut_bytes: int

    @property
    def stdout(self) -> str:
        """What it wrote, as text; bytes that are no UTF-8 are backslash escapes. Not yet safe to show at a terminal."""
        return self.stdout_bytes.decode("utf-8", "backslashreplace")

    @property
    def stderr(self) -> str:
        """As `stdout`."""
        return self.stderr_bytes.decode("utf-8", "backslashreplace")


def read_completed(arguments: tuple[str, ...], answer: Mapping[str, Plain], streams: Sequence[bytes]) -> Completed:
    """What the agent's answer to `exec` and its two streams mean; the guest's numbers are not relied on."""
    total = sum(int(str(answer[name])) for name in ("stdout_bytes", "stderr_bytes"))
    stdout, stderr = (stream[:OUTPUT_LIMIT] for stream in streams)
    return Completed(
        arguments, int(str(answer["returncode"])), stdout, stderr, max(0, total - len(stdout) - len(stderr))
    )
