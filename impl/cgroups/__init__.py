"""Control groups, both versions behind one object: limits that are what was asked for, figures, life and death.

    cgroup       Cgroup: made, entered, limited, measured, frozen, killed, removed; placing is where it is
    layout       which hierarchies are mounted, and where a process is in them
    limits       what is asked; stats is what was measured; controllers has a module for each controller
    effective    the limit that holds; sampling has figures of many cgroups, again and again
    planning     from limits to ordered writes; writes are values, undone if one of them fails; applying does them
    events       what happens: oom is about kills, pressure about waiting for resources
    devices      rules about devices, as a list or as a program
    systemd      scopes and slices over D-Bus, in place of files
    delegation   a cgroup for another user; threads has threaded subtrees; birth starts programs in a cgroup
    enabling, entering, freezing, thawing, ending, waiting, readiness: controllers on the way down; moved in; frozen;
                 thawed; killed and removed; waiting for events
    directory    the directory of one cgroup, held by a descriptor; formats are those of its files
    conversions  limits of version 1 as version 2 has them; wording has limits as people write them
    classic      the names of 2014, with classic_records and classic_stats
    errors       what can go wrong; remedies what helps

Each stands on those below it. This is not a container runtime, and not for processes that are not Linux's.

A name is looked up when it is first used, so that a program pays for the modules it needs.
"""

TYPE_CHECKING = False  # what type checkers take for true; typing itself would cost 6 ms at every import
if TYPE_CHECKING:
    from kernelproof.impl.cgroups.applying import Applied as Applied
    from kernelproof.impl.cgroups.applying import Changes as Changes
    from kernelproof.impl.cgroups.birth import Born as Born
    from kernelproof.impl.cgroups.cgroup import Cgroup as Cgroup
    from kernelproof.impl.cgroups.controllers.pressure import Pressure as Pressure
    from kernelproof.impl.cgroups.controllers.pressure import Stall as Stall
    from kernelproof.impl.cgroups.controllers.pressure import parse_pressure as parse_pressure
    from kernelproof.impl.cgroups.conversions import blkio_weight_to_io as blkio_weight_to_io
    from kernelproof.impl.cgroups.conversions import shares_to_weight as shares_to_weight
    from kernelproof.impl.cgroups.conversions import swap_of as swap_of
    from kernelproof.impl.cgroups.conversions import weight_to_shares as weight_to_shares
    from kernelproof.impl.cgroups.delegation import Withheld as Withheld
    from kernelproof.impl.cgroups.delegation import delegate as delegate
    from kernelproof.impl.cgroups.delegation import explain_migration as explain_migration
    from kernelproof.impl.cgroups.delegation import read_delegated_files as read_delegated_files
    from kernelproof.impl.cgroups.delegation import report_withheld as report_withheld
    from kernelproof.impl.cgroups.devices.attaching import Attached as Attached
    from kernelproof.impl.cgroups.devices.attaching import read_programs as read_programs
    from kernelproof.impl.cgroups.devices.attaching import set_devices as set_devices
    from kernelproof.impl.cgroups.devices.program import Instruction as Instruction
    from kernelproof.impl.cgroups.devices.program import compile_rules as compile_rules
    from kernelproof.impl.cgroups.devices.program import format_program as format_program
    from kernelproof.impl.cgroups.devices.rules import Device as Device
    from kernelproof.impl.cgroups.devices.rules import DeviceRule as DeviceRule
    from kernelproof.impl.cgroups.devices.rules import is_allowed as is_allowed
    from kernelproof.impl.cgroups.directory import Directory as Directory
    from kernelproof.impl.cgroups.effective import EffectiveLimit as EffectiveLimit
    from kernelproof.impl.cgroups.effective import effective_limit as effective_limit
    from kernelproof.impl.cgroups.errors import BelowUsageError as BelowUsageError
    from kernelproof.impl.cgroups.errors import CgroupError as CgroupError
    from kernelproof.impl.cgroups.errors import FormatError as FormatError
    from kernelproof.impl.cgroups.errors import LimitError as LimitError
    from kernelproof.impl.cgroups.errors import NoControllerError as NoControllerError
    from kernelproof.impl.cgroups.errors import StillBusyError as StillBusyError
    from kernelproof.impl.cgroups.errors import SystemdError as SystemdError
    from kernelproof.impl.cgroups.events import CgroupEvents as CgroupEvents
    from kernelproof.impl.cgroups.events import Event as Event
    from kernelproof.impl.cgroups.events import watch_memory_v1 as watch_memory_v1
    from kernelproof.impl.cgroups.layout import ControllerStatus as ControllerStatus
    from kernelproof.impl.cgroups.layout import Hierarchy as Hierarchy
    from kernelproof.impl.cgroups.layout import Layout as Layout
    from kernelproof.impl.cgroups.layout import Membership as Membership
    from kernelproof.impl.cgroups.layout import parse_controllers as parse_controllers
    from kernelproof.impl.cgroups.layout import parse_membership as parse_membership
    from kernelproof.impl.cgroups.layout import read_layout as read_layout
    from kernelproof.impl.cgroups.layout import read_membership as read_membership
    from kernelproof.impl.cgroups.limits import IoLimit as IoLimit
    from kernelproof.impl.cgroups.limits import IoWeight as IoWeight
    from kernelproof.impl.cgroups.limits import Limits as Limits
    from kernelproof.impl.cgroups.limits import RdmaLimit as RdmaLimit
    from kernelproof.impl.cgroups.oom import OomReport as OomReport
    from kernelproof.impl.cgroups.oom import OomWatch as OomWatch
    from kernelproof.impl.cgroups.oom import read_oom as read_oom
    from kernelproof.impl.cgroups.placing import Place as Place
    from kernelproof.impl.cgroups.pressure import PressureTrigger as PressureTrigger
    from kernelproof.impl.cgroups.pressure import Stalled as Stalled
    from kernelproof.impl.cgroups.sampling import Sampler as Sampler
    from kernelproof.impl.cgroups.sampling import Use as Use
    from kernelproof.impl.cgroups.stats import Stats as Stats
    from kernelproof.impl.cgroups.systemd.manager import Manager as Manager
    from kernelproof.impl.cgroups.systemd.manager import Unit as Unit
    from kernelproof.impl.cgroups.systemd.manager import is_booted as is_booted
    from kernelproof.impl.cgroups.systemd.names import expand_slice as expand_slice
    from kernelproof.impl.cgroups.systemd.names import slice_of as slice_of
    from kernelproof.impl.cgroups.systemd.properties import plan_properties as plan_properties
    from kernelproof.impl.cgroups.systemd.properties import round_limits as round_limits
    from kernelproof.impl.cgroups.wording import parse_limits as parse_limits
    from kernelproof.impl.cgroups.writes import Write as Write

# Module below this package -> what it gives.
_HOMES = {
    "applying": "Applied Changes",
    "birth": "Born",
    "cgroup": "Cgroup",
    "controllers.pressure": "Pressure Stall parse_pressure",
    "conversions": "blkio_weight_to_io shares_to_weight swap_of weight_to_shares",
    "delegation": "Withheld delegate explain_migration read_delegated_files report_withheld",
    "devices.attaching": "Attached read_programs set_devices",
    "devices.program": "Instruction compile_rules format_program",
    "devices.rules": "Device DeviceRule is_allowed",
    "directory": "Directory",
    "effective": "EffectiveLimit effective_limit",
    "errors": "BelowUsageError CgroupError FormatError LimitError NoControllerError StillBusyError SystemdError",
    "events": "CgroupEvents Event watch_memory_v1",
    "layout": (
        "ControllerStatus Hierarchy Layout Membership parse_controllers parse_membership read_layout read_membership"
    ),
    "limits": "IoLimit IoWeight Limits RdmaLimit",
    "oom": "OomReport OomWatch read_oom",
    "placing": "Place",
    "pressure": "PressureTrigger Stalled",
    "sampling": "Sampler Use",
    "stats": "Stats",
    "systemd.manager": "Manager Unit is_booted",
    "systemd.names": "expand_slice slice_of",
    "systemd.properties": "plan_properties round_limits",
    "wording": "parse_limits",
    "writes": "Write",
}


def __getattr__(name: str) -> object:
    module = next((module for module, names in _HOMES.items() if name in names.split()), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # measured: 0.6 ms, which a command that lives for 20 must not pay

    value: object = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value  # the next look-up is a plain one
    return value


def __dir__() -> list[str]:
    return sorted(name for names in _HOMES.values() for name in names.split())
