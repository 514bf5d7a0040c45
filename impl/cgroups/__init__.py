"""Control groups, both versions behind one object: limits that are what was asked for, figures, life and death.

    cgroup       Cgroup: made, entered, limited, measured, frozen, killed, removed; placing is where it is
    layout       which hierarchies are mounted, and where a process is in them
    limits       what is asked; stats is what was measured; controllers has a module for each controller
    planning     from limits to ordered writes; writes are values, undone if one of them fails
    enabling, freezing, ending, waiting: controllers on the way down; frozen; killed and removed; events
    directory    the directory of one cgroup, held by a descriptor; formats are those of its files
    conversions  limits of version 1 as version 2 has them
    errors       what can go wrong

Each stands on those below it. This is not a container runtime, and not for processes that are not Linux's.

A name is looked up when it is first used, so that a program pays for the modules it needs.
"""

from importlib import import_module

TYPE_CHECKING = False  # what type checkers take for true; typing itself would cost 6 ms at every import
if TYPE_CHECKING:
    from kernelproof.impl.cgroups.cgroup import Applied as Applied
    from kernelproof.impl.cgroups.cgroup import Cgroup as Cgroup
    from kernelproof.impl.cgroups.controllers.pressure import Pressure as Pressure
    from kernelproof.impl.cgroups.controllers.pressure import Stall as Stall
    from kernelproof.impl.cgroups.controllers.pressure import parse_pressure as parse_pressure
    from kernelproof.impl.cgroups.conversions import blkio_weight_to_io as blkio_weight_to_io
    from kernelproof.impl.cgroups.conversions import shares_to_weight as shares_to_weight
    from kernelproof.impl.cgroups.conversions import swap_of as swap_of
    from kernelproof.impl.cgroups.conversions import weight_to_shares as weight_to_shares
    from kernelproof.impl.cgroups.directory import Directory as Directory
    from kernelproof.impl.cgroups.errors import BelowUsageError as BelowUsageError
    from kernelproof.impl.cgroups.errors import CgroupError as CgroupError
    from kernelproof.impl.cgroups.errors import FormatError as FormatError
    from kernelproof.impl.cgroups.errors import LimitError as LimitError
    from kernelproof.impl.cgroups.errors import NoControllerError as NoControllerError
    from kernelproof.impl.cgroups.errors import StillBusyError as StillBusyError
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
    from kernelproof.impl.cgroups.placing import Place as Place
    from kernelproof.impl.cgroups.stats import Stats as Stats
    from kernelproof.impl.cgroups.writes import Write as Write

# Module below this package -> what it gives.
_HOMES = {
    "cgroup": "Applied Cgroup",
    "controllers.pressure": "Pressure Stall parse_pressure",
    "conversions": "blkio_weight_to_io shares_to_weight swap_of weight_to_shares",
    "directory": "Directory",
    "errors": "BelowUsageError CgroupError FormatError LimitError NoControllerError StillBusyError",
    "layout": (
        "ControllerStatus Hierarchy Layout Membership parse_controllers parse_membership read_layout read_membership"
    ),
    "limits": "IoLimit IoWeight Limits RdmaLimit",
    "placing": "Place",
    "stats": "Stats",
    "writes": "Write",
}


def __getattr__(name: str) -> object:
    module = next((module for module, names in _HOMES.items() if name in names.split()), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value  # the next look-up is a plain one
    return value


def __dir__() -> list[str]:
    return sorted(name for names in _HOMES.values() for name in names.split())
