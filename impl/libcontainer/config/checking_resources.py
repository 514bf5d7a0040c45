"""Whether limits of a cgroup can hold together, on either version.

Source: OCI runtime specification 1.3, config-linux.md, "Control groups"; the kernel's documents of cgroup-v1 and -v2.
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.config.findings import Findings
from kernelproof.impl.libcontainer.config.record import json_name

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config.resources import BlockIo, Cpu, DeviceRule, Memory, Resources

LEAST_PERIOD, MOST_PERIOD = 1_000, 1_000_000  # microseconds: sched-bwc.rst
MOST_CPU = 1 << 16  # far above any kernel's NR_CPUS; keeps "0-4294967295" from becoming a set


def check_resources(
    resources: Resources, found: Findings | None = None, at: str = "$.linux.resources", *, whole: bool = True
) -> Findings:
    """What is wrong in limits, at a JSON path; those that are not `whole` are a change of some, which others bound."""
    found = found or Findings()
    for index, rule in enumerate(resources.devices):
        _device_rule(rule, f"{at}.devices[{index}]", found)
    if resources.memory is not None:
        _memory(resources.memory, f"{at}.memory", found, whole=whole)
    if resources.cpu is not None:
        _cpu(resources.cpu, f"{at}.cpu", found)
    if resources.block_io is not None:
        _block_io(resources.block_io, f"{at}.blockIO", found)
    for key, _ in resources.unified:
        if "/" in key or key in ("", ".", ".."):
            found.wrong(f'{at}.unified["{key}"]', None, "it is a file of the cgroup itself", "Write its name alone")
    _rare(resources, at, found)
    return found


def _rare(resources: Resources, at: str, found: Findings) -> None:
    if resources.pids is not None and (resources.pids.limit or 0) < -1:
        found.wrong(f"{at}.pids.limit", resources.pids.limit, "tasks, or -1 for no limit")
    for device, limit in resources.rdma:
        if limit.hca_handles is None and limit.hca_objects is None:
            found.wrong(f"{at}.rdma.{device}", None, "hcaHandles, hcaObjects or both are needed")
    if resources.network is not None:
        for index, priority in enumerate(resources.network.priorities):
            if not priority.name:
                found.wrong(f"{at}.network.priorities[{index}].name", "", "an interface is needed")
    _huge_pages(resources, at, found)


def _huge_pages(resources: Resources, at: str, found: Findings) -> None:
    for index, page in enumerate(resources.hugepage_limits):
        size, unit = page.page_size[:-2], page.page_size[-2:]
        if unit not in ("KB", "MB", "GB") or not (size.isascii() and size.isdigit()):
            found.wrong(f"{at}.hugepageLimits[{index}].pageSize", page.page_size, "a size such as 2MB, 64KB or 1GB")


def _device_rule(rule: DeviceRule, at: str, found: Findings) -> None:
    if rule.type and rule.type not in ("a", "b", "c"):
        found.wrong(f"{at}.type", rule.type, "a (all), b (block) or c (character)")
    if rule.access is not None and not set(rule.access) <= set("rwm"):
        found.wrong(f"{at}.access", rule.access, "letters of rwm: read, write, mknod")
    for key, number in (("major", rule.major), ("minor", rule.minor)):
        if number is not None and not -1 <= number < 1 << 32:
            found.wrong(f"{at}.{key}", number, "a device's number, or -1 for all")


def _memory(memory: Memory, at: str, found: Findings, *, whole: bool) -> None:
    for key in ("limit", "reservation", "swap", "kernel", "kernel_tcp"):
        value = getattr(memory, key)
        if value is not None and value < -1:
            found.wrong(f"{at}.{json_name(key)}", value, "bytes, or -1 for no limit")
    limit, swap = memory.limit or 0, memory.swap or 0
    if swap > 0 and limit <= 0 and (whole or memory.limit is not None):
        rule = "memory and swap together can't be limited without a limit of memory"
        found.wrong(f"{at}.swap", swap, rule, "Set limit too", given=(f"{at}.limit",))
    elif 0 < swap < limit:
        rule = f"it is memory and swap together, and less than limit ({limit})"
        found.wrong(f"{at}.swap", swap, rule, "Add limit to it", given=(f"{at}.limit",))
    if memory.swappiness is not None and memory.swappiness > 100:
        found.wrong(f"{at}.swappiness", memory.swappiness, "it must be 0 to 100")


def _cpu(cpu: Cpu, at: str, found: Findings) -> None:
    quota = cpu.quota or 0
    if cpu.burst and 0 < quota < cpu.burst:
        found.wrong(f"{at}.burst", cpu.burst, f"it can't be more than quota ({quota})")
    if cpu.period and not LEAST_PERIOD <= cpu.period <= MOST_PERIOD:
        found.wrong(f"{at}.period", cpu.period, f"microseconds, {LEAST_PERIOD} to {MOST_PERIOD}")
    if 0 < quota < LEAST_PERIOD:
        found.wrong(f"{at}.quota", quota, f"microseconds, at least {LEAST_PERIOD}; 0 or less is no limit")
    if cpu.idle is not None and cpu.idle not in (0, 1):
        found.wrong(f"{at}.idle", cpu.idle, "0 or 1")
    if cpu.cpus:
        check_cpu_list(cpu.cpus, f"{at}.cpus", found)
    if cpu.mems:
        check_cpu_list(cpu.mems, f"{at}.mems", found)


def check_cpu_list(text: str, at: str, found: Findings) -> None:
    """A list such as 0-3,7, as of cpuset(7)."""
    for part in text.split(","):
        first, dash, last = part.strip(" \n\t").partition("-")
        if not _is_number(first) or (dash and not _is_number(last)):
            found.wrong(at, text, "a list of numbers and ranges is needed", 'Write it as "0-3,7"')
            return
        if dash and int(first) > int(last):
            found.wrong(at, text, f"the range {part} runs backwards")
            return


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6 and int(text) < MOST_CPU


def _block_io(block: BlockIo, at: str, found: Findings) -> None:
    for key, weight in (("weight", block.weight), ("leafWeight", block.leaf_weight)):
        _weight(weight, f"{at}.{key}", found)
    for index, device in enumerate(block.weight_device):
        where = f"{at}.weightDevice[{index}]"
        if device.weight is None and device.leaf_weight is None:
            found.wrong(where, None, "weight, leafWeight or both are needed")
        _weight(device.weight, f"{where}.weight", found)
        _weight(device.leaf_weight, f"{where}.leafWeight", found)
        _numbers(device.major, device.minor, where, found)
    for key, devices in block.set_fields():
        if key.startswith("throttle") and isinstance(devices, tuple):
            for index, device in enumerate(devices):
                _numbers(device.major, device.minor, f"{at}.{json_name(key)}[{index}]", found)


def _weight(weight: int | None, at: str, found: Findings) -> None:
    if weight and not 10 <= weight <= 1000:
        found.wrong(at, weight, "it must be 10 to 1000, or 0 for the default")


def _numbers(major: int, minor: int, at: str, found: Findings) -> None:
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        found.wrong(at, f"{major}:{minor}", "these can't be a device's numbers")
