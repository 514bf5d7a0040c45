"""The kernel's log and taint flags since a mark, judged.

A kernel that writes BUG, WARNING, oops, a lockdep or stall report or a system-wide OOM kill during a test did not do
what any document says, whatever the test thinks. So it is looked at after every test that has a machine.

Records are those of /dev/kmsg (Documentation/ABI/testing/dev-kmsg): "priority,sequence,microseconds,flags;text", then
lines of a dictionary that begin with a space. Only records of facility 0 are the kernel's; what user space writes into
the log is not judged.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

KMSG = "/dev/kmsg"
TAINTED = "/proc/sys/kernel/tainted"

_RECORD_BYTES = 16384  # at least CONSOLE_EXT_LOG_MAX of any kernel; a smaller buffer gives EINVAL

_TAINT_BYTES = 64  # a 64-bit number and its newline fit

_LOST = "WARNING: records were lost: more was logged than the kernel keeps"

# First lines of trouble; each report has one, its other lines say nothing new.
_TROUBLE = re.compile(
    r"(?:watchdog: )?BUG: "  # also "BUG: KASAN", "BUG: soft lockup", "BUG: sleeping function called from …"
    r"|kernel BUG at "
    r"|WARNING: "  # WARN_ON, and lockdep since 4.12
    r"|INFO: (?:possible|inconsistent|suspicious|trying to register non-static key|HARDIRQ-safe|SOFTIRQ-safe)"
    r"|.*\[#\d+\](?:\s|$)"  # "Oops: 0002 [#1] SMP": every die() counts itself so; faults of programs do not
    r"|Kernel panic"
    r"|Internal error: "
    r"|Unable to handle kernel "
    r"|rcu: INFO: .*stall|INFO: rcu_.*stall"
    r"|INFO: task .* blocked for more than "
    r"|(?:NMI )?watchdog: Watchdog detected hard LOCKUP|Watchdog detected hard LOCKUP"
    r"|UBSAN: "
    r"|kmemleak: \d+ new suspected"
    r"|Out of memory: "  # a cgroup's own is "Memory cgroup out of memory: "
    r"|unregister_netdevice: waiting for "
)

# Documentation/admin-guide/tainted-kernels.rst, Table for decoding tainted state
_TAINTS = (
    "proprietary module",
    "module forced to load",
    "processor out of specification",
    "module forced to unload",
    "machine check exception",
    "bad page",
    "taint asked for by user space",
    "kernel died: oops or BUG",
    "ACPI table overridden",
    "warning issued",
    "staging driver loaded",
    "firmware workaround",
    "out-of-tree module",
    "unsigned module",
    "soft lockup",
    "live patch",
    "auxiliary, by the distribution",
    "structures randomised",
    "in-kernel test run",
    "fwctl mutating debug",
)
# What an expected line in the log explains: bad page, oops, warning, soft lockup.
_EXPLAINED_BY_LOG = 1 << 5 | 1 << 7 | 1 << 9 | 1 << 14


class Record(NamedTuple):
    """One record of the kernel's log.

    Args:
        facility: 0: the kernel itself; any other: written by user space.
        microseconds: Since the start of the kernel.
        text: Without its dictionary; bytes that are not printable are escaped as the kernel does it.
    """

    facility: int
    microseconds: int
    text: str

    def __str__(self) -> str:
        return f"[{self.microseconds / 1_000_000:12.6f}] {self.text}"


class Verdict(NamedTuple):
    """What a stretch of log and the taint flags say.

    Args:
        troubles: Lines and taints that nobody expected.
        missing: Expected patterns that nothing matched.
    """

    troubles: tuple[str, ...]
    missing: tuple[str, ...]

    def describe(self) -> str:
        """Return the verdict as text, one finding a line; empty when there is nothing to say."""
        lines = [f"kernel log: {trouble}" for trouble in self.troubles]
        lines += [f"kernel log: nothing matched the expected {pattern!r}" for pattern in self.missing]
        return "\n".join(lines)


def parse_record(data: bytes) -> Record:
    """Parse one record as read(2) on /dev/kmsg gives it.

    Raises:
        ValueError: It has no prefix of numbers.
    """
    prefix, separator, rest = data.partition(b";")
    fields = prefix.split(b",")
    if not separator or len(fields) < 3:
        raise ValueError(f"record of the kernel log without a prefix: {data[:80]!r}")
    text = rest.partition(b"\n")[0].decode("utf-8", "backslashreplace")
    return Record(int(fields[0]) >> 3, int(fields[2]), text)


def judge(records: Iterable[Record], new_taints: int, expected: Sequence[str] = ()) -> Verdict:
    """Say what in a stretch of kernel log is trouble.

    Args:
        records: What was logged.
        new_taints: Taint bits that were not set before.
        expected: Regular expressions, searched for in the kernel's lines. A line that matches one is no trouble, and
            each must match some line. Expected trouble explains the taints that such lines set.

    Raises:
        re.error: An expected pattern is malformed.
    """
    lines = [record.text for record in records if record.facility == 0]
    patterns = [re.compile(pattern) for pattern in expected]
    unexpected = [line for line in lines if not any(pattern.search(line) for pattern in patterns)]
    troubles = [line for line in unexpected if _TROUBLE.match(line)]
    if patterns and not troubles:
        new_taints &= ~_EXPLAINED_BY_LOG
    missing = [pattern.pattern for pattern in patterns if not any(pattern.search(line) for line in lines)]
    return Verdict((*troubles, *name_taints(new_taints)), tuple(missing))


def name_taints(bits: int) -> tuple[str, ...]:
    """Return the set bits as words: "taint 9: warning issued"."""
    return tuple(
        f"taint {bit}: {_TAINTS[bit] if bit < len(_TAINTS) else 'unknown to kernelproof'}"
        for bit in range(bits.bit_length())
        if bits >> bit & 1
    )


class KernelLog:
    """The log from the moment of its making on. Owns two file descriptors until `close`.

    Both files are opened once: what a test does to mounts, limits and its own rights takes nothing from its judge.

    Args:
        kmsg: The log's device.
        tainted: The file of taint flags.

    Raises:
        OSError: EPERM, ENOENT: the log can't be read; it needs CAP_SYSLOG where dmesg is restricted.
    """

    def __init__(self, kmsg: str = KMSG, tainted: str = TAINTED) -> None:
        self._descriptor = os.open(kmsg, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._tainted = os.open(tainted, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(self._descriptor)
            raise
        self._taints = self._read_taints()
        os.lseek(self._descriptor, 0, os.SEEK_END)

    def read_new(self) -> list[Record]:
        """Return what was logged since the last call, or since the mark.

        Records that were overwritten before they were read are told by one record in their place.
        """
        records = []
        while True:
            try:
                records.append(parse_record(os.read(self._descriptor, _RECORD_BYTES)))
            except BlockingIOError:
                return records
            except BrokenPipeError:  # the next read gives the oldest record that is left
                records.append(Record(0, 0, _LOST))

    def new_taints(self) -> int:
        """Return the taint bits set since the last call, or since the mark."""
        before, self._taints = self._taints, self._read_taints()
        return self._taints & ~before

    def close(self) -> None:
        """Close the log."""
        os.close(self._descriptor)
        os.close(self._tainted)

    def _read_taints(self) -> int:
        return int(os.pread(self._tainted, _TAINT_BYTES, 0))
