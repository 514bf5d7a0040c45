"""The io controller; blkio on version 1. Source: cgroup-v2.rst, IO; cgroup-v1/blkio-controller.rst."""

from __future__ import annotations

from collections.abc import Callable

from kernelproof.impl.cgroups.conversions import LEAST_BLKIO, LEAST_WEIGHT, MOST_BLKIO, MOST_WEIGHT, check_weight
from kernelproof.impl.cgroups.errors import LimitError, NoControllerError
from kernelproof.impl.cgroups.formats import MAX, format_nested, format_value, parse_nested, parse_value
from kernelproof.impl.cgroups.limits import IoLimit, Limits
from kernelproof.impl.cgroups.writes import Reader, Write, need

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple

# Member of IoLimit -> key in io.max, file of blkio.
_RATES = (
    ("read_bytes", "rbps", "blkio.throttle.read_bps_device"),
    ("write_bytes", "wbps", "blkio.throttle.write_bps_device"),
    ("read_operations", "riops", "blkio.throttle.read_iops_device"),
    ("write_operations", "wiops", "blkio.throttle.write_iops_device"),
)
_WEIGHT_FILES_V2 = ("io.weight", "io.bfq.weight")
_WEIGHT_FILES_V1 = ("blkio.weight", "blkio.bfq.weight")
# The kernel counts what bfq or cfq handled in the first, all that was throttled or could have been in the second.
_BYTES_V1 = (
    "blkio.bfq.io_service_bytes_recursive",
    "blkio.io_service_bytes_recursive",
    "blkio.throttle.io_service_bytes_recursive",
    "blkio.throttle.io_service_bytes",
)
_OPERATIONS_V1 = (
    "blkio.bfq.io_serviced_recursive",
    "blkio.io_serviced_recursive",
    "blkio.throttle.io_serviced_recursive",
    "blkio.throttle.io_serviced",
)


class DeviceIo(NamedTuple):
    """What one block device did for a cgroup, in bytes and operations."""

    major: int
    minor: int
    read_bytes: int
    write_bytes: int
    read_operations: int
    write_operations: int
    discarded_bytes: int = 0
    discard_operations: int = 0


def plan_v2(limits: Limits, read: Reader) -> list[Write]:
    """Writes for version 2.

    Raises:
        LimitError: out of range, or a device twice.
        NoControllerError: the cgroup has no such file.
    """
    writes = _plan_weights(limits, read, _WEIGHT_FILES_V2, lambda weight: weight)
    check_devices(limits.io)
    if limits.io:
        now = parse_nested(need(read, "io.max", "io"), "io.max")
        for limit in limits.io:
            device = f"{limit.major}:{limit.minor}"
            values = {key: value for name, key, _ in _RATES if (value := getattr(limit, name)) is not None}
            before = {key: now.get(device, {}).get(key, MAX) for key in values}
            writes.append(Write("io.max", format_nested(device, values), "io", format_nested(device, before)))
    return writes


def plan_v1(limits: Limits, read: Reader) -> list[Write]:
    """Writes for version 1, where 0 lifts a limit; errors as `plan_v2`."""
    writes = _plan_weights(limits, read, _WEIGHT_FILES_V1, to_blkio_weight)
    check_devices(limits.io)
    for limit in limits.io:
        device = f"{limit.major}:{limit.minor}"
        for name, _, file in _RATES:
            value = getattr(limit, name)
            if value is None:
                continue
            lines = [line.split() for line in need(read, file, "io").splitlines()]
            before = next((words[1] for words in lines if len(words) == 2 and words[0] == device), "0")
            writes.append(Write(file, f"{device} {max(value, 0)}", "io", f"{device} {before}"))
    return writes


def to_blkio_weight(weight: int) -> int:
    """The weight of version 1 that stands for one of version 2, both ends on each other."""
    return LEAST_BLKIO + (weight - LEAST_WEIGHT) * (MOST_BLKIO - LEAST_BLKIO) // (MOST_WEIGHT - LEAST_WEIGHT)


def _plan_weights(limits: Limits, read: Reader, files: tuple[str, ...], convert: Callable[[int], int]) -> list[Write]:
    if limits.io_weight is None and not limits.io_weights:
        return []
    file = next((name for name in files if read(name) is not None), None)
    if file is None:
        raise NoControllerError(f"io_weight: this cgroup has neither {' nor '.join(files)}: the kernel weighs no I/O")
    text = need(read, file, "io_weight")
    pairs = dict(words for line in text.splitlines() if len(words := line.split()) == 2)
    default = pairs.get("default", text.strip())
    writes = []
    if limits.io_weight is not None:
        check_weight("io_weight", limits.io_weight)
        writes.append(Write(file, str(convert(limits.io_weight)), "io_weight", default))
    device_file = "blkio.weight_device" if file == "blkio.weight" else file
    for entry in limits.io_weights:
        check_weight("io_weights", entry.weight)
        device = f"{entry.major}:{entry.minor}"
        before = f"{device} {pairs.get(device, 'default')}"
        writes.append(Write(device_file, f"{device} {convert(entry.weight)}", "io_weights", before))
    return writes


def check_devices(limits: tuple[IoLimit, ...]) -> None:
    """Raises: LimitError: a device twice, no rate at all, or a rate that no kernel takes."""
    seen = set()
    for limit in limits:
        device = (limit.major, limit.minor)
        if device in seen:
            raise LimitError("io", f"{limit.major}:{limit.minor}", "the device is named twice")
        seen.add(device)
        rates = [getattr(limit, name) for name, _, _ in _RATES]
        if all(rate is None for rate in rates):
            raise LimitError("io", f"{limit.major}:{limit.minor}", "no rate is given")
        for rate in rates:
            if rate is not None and rate != -1 and rate <= 0:
                raise LimitError("io", rate, "a rate is at least 1 a second, or -1 for no limit")


def read_v2(read: Reader) -> tuple[DeviceIo, ...] | None:
    """What version 2 measured; None without the controller.

    Raises:
        FormatError: a file that can't be read.
    """
    text = read("io.stat")
    if text is None:
        return None
    found = []
    for device, values in parse_nested(text, "io.stat").items():
        major, _, minor = device.partition(":")
        if "rbytes" not in values:
            continue  # only cost model keys: nothing was done for it
        found.append(
            DeviceIo(
                parse_value(major, "io.stat"),
                parse_value(minor, "io.stat"),
                *(values.get(key, 0) for key in ("rbytes", "wbytes", "rios", "wios", "dbytes", "dios")),
            )
        )
    return tuple(found)


def read_v1(read: Reader) -> tuple[DeviceIo, ...] | None:
    """What version 1 measured, by the first pair of files that says anything; None without the controller.

    Raises:
        FormatError: a file that can't be read.
    """
    is_there = False
    for bytes_file, operations_file in zip(_BYTES_V1, _OPERATIONS_V1, strict=True):
        moved, done = read(bytes_file), read(operations_file)
        if moved is None or done is None:
            continue
        is_there = True
        by_device, counts = _parse_v1(moved, bytes_file), _parse_v1(done, operations_file)
        if by_device:
            return tuple(_combine(device, by_device[device], counts.get(device, {})) for device in by_device)
    return () if is_there else None


def _combine(device: tuple[int, int], moved: dict[str, int], done: dict[str, int]) -> DeviceIo:
    return DeviceIo(
        major=device[0],
        minor=device[1],
        read_bytes=moved.get("Read", 0),
        write_bytes=moved.get("Write", 0),
        read_operations=done.get("Read", 0),
        write_operations=done.get("Write", 0),
        discarded_bytes=moved.get("Discard", 0),
        discard_operations=done.get("Discard", 0),
    )


def _parse_v1(text: str, file: str) -> dict[tuple[int, int], dict[str, int]]:
    # "8:0 Read 4096" a line, then "Total 4096".
    found: dict[tuple[int, int], dict[str, int]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3:
            major, _, minor = words[0].partition(":")
            device = parse_value(major, file), parse_value(minor, file)
            found.setdefault(device, {})[words[1]] = parse_value(words[2], file)
    return found


def describe(limit: IoLimit) -> str:
    """A limit as io.max has it."""
    values = {key: value for name, key, _ in _RATES if (value := getattr(limit, name)) is not None}
    return " ".join(
        [f"{limit.major}:{limit.minor}", *(f"{key}={format_value(value)}" for key, value in values.items())]
    )
