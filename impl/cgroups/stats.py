"""What was measured of a cgroup, all controllers in one record; limits are in `limits`."""

from __future__ import annotations

from collections.abc import Callable

from kernelproof.impl.cgroups.controllers import cpu, cpuset, hugetlb, io, memory, misc, pids, pressure, rdma
from kernelproof.impl.cgroups.controllers.cpu import CpuStats
from kernelproof.impl.cgroups.controllers.cpuset import CpusetStats
from kernelproof.impl.cgroups.controllers.hugetlb import HugetlbStats
from kernelproof.impl.cgroups.controllers.io import DeviceIo
from kernelproof.impl.cgroups.controllers.memory import MemoryStats
from kernelproof.impl.cgroups.controllers.misc import MiscStats
from kernelproof.impl.cgroups.controllers.pids import PidsStats
from kernelproof.impl.cgroups.controllers.pressure import Pressure
from kernelproof.impl.cgroups.controllers.rdma import RdmaStats
from kernelproof.impl.cgroups.writes import Reader

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple

ReaderOf = Callable[[str], "Reader | None"]  # controller -> reads its files; None where no hierarchy has it

ALL = ("cpu", "cpuset", "memory", "io", "pids", "hugetlb", "rdma", "misc", "pressure")


class Stats(NamedTuple):
    """What was measured; a controller that is not there is None, or empty where there may be several entries."""

    cpu: CpuStats | None
    cpuset: CpusetStats | None
    memory: MemoryStats | None
    io: tuple[DeviceIo, ...] | None
    pids: PidsStats | None
    hugetlb: tuple[HugetlbStats, ...]
    rdma: tuple[RdmaStats, ...] | None
    misc: tuple[MiscStats, ...] | None
    pressure: dict[str, Pressure]


def read_v2(read: Reader, *, only: tuple[str, ...] = ALL, page_sizes: tuple[str, ...] = ()) -> Stats:
    """Read a cgroup of version 2, one read(2) a file.

    Args:
        read: reads interface files.
        only: what to read.
        page_sizes: huge page sizes of the machine.

    Raises:
        FormatError: a file that can't be read.
    """
    return Stats(
        cpu=cpu.read_v2(read) if "cpu" in only else None,
        cpuset=cpuset.read_v2(read) if "cpuset" in only else None,
        memory=memory.read_v2(read) if "memory" in only else None,
        io=io.read_v2(read) if "io" in only else None,
        pids=pids.read_v2(read) if "pids" in only else None,
        hugetlb=hugetlb.read_v2(read, page_sizes) if "hugetlb" in only else (),
        rdma=rdma.read_v2(read) if "rdma" in only else None,
        misc=misc.read_v2(read) if "misc" in only else None,
        pressure=_read_pressure(read) if "pressure" in only else {},
    )


def read_v1(reader_of: ReaderOf, *, only: tuple[str, ...] = ALL, page_sizes: tuple[str, ...] = ()) -> Stats:
    """Read a cgroup of version 1, whose controllers may be in hierarchies of their own.

    Args:
        reader_of: gives for a controller what reads its files.
        only: what to read.
        page_sizes: huge page sizes of the machine.

    Raises:
        FormatError: a file that can't be read.
    """

    def reader(name: str, *controllers: str) -> Reader | None:
        if name not in only:
            return None
        found = [read for controller in controllers or (name,) if (read := reader_of(controller)) is not None]
        if not found:
            return None
        return lambda file: next((text for read in found if (text := read(file)) is not None), None)

    readers = {name: reader(name) for name in ALL} | {
        "cpu": reader("cpu", "cpuacct", "cpu"),
        "io": reader("io", "blkio"),
    }
    cpu_of, cpuset_of, memory_of, io_of = (readers[name] for name in ("cpu", "cpuset", "memory", "io"))
    pids_of, hugetlb_of, rdma_of, misc_of = (readers[name] for name in ("pids", "hugetlb", "rdma", "misc"))
    return Stats(
        cpu=None if cpu_of is None else cpu.read_v1(cpu_of),
        cpuset=None if cpuset_of is None else cpuset.read_v1(cpuset_of),
        memory=None if memory_of is None else memory.read_v1(memory_of),
        io=None if io_of is None else io.read_v1(io_of),
        pids=None if pids_of is None else pids.read_v1(pids_of),
        hugetlb=() if hugetlb_of is None else hugetlb.read_v1(hugetlb_of, page_sizes),
        rdma=None if rdma_of is None else rdma.read_v1(rdma_of),
        misc=None if misc_of is None else misc.read_v1(misc_of),
        pressure={},
    )


def _read_pressure(read: Reader) -> dict[str, Pressure]:
    texts = {kind: read(f"{kind}.pressure") for kind in pressure.KINDS}
    return {kind: pressure.parse_pressure(text, f"{kind}.pressure") for kind, text in texts.items() if text}
