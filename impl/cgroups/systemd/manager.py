"""Scopes and slices of systemd: started, limited, stopped. Every call is over when systemd's job is.

    with Manager.open() as manager:
        unit = manager.start_scope("web.scope", [pid], slice="work.slice", limits=Limits(memory_max_bytes=64 << 20))
        manager.set_limits(unit.name, Limits(pids_max=100))
        manager.stop(unit.name)

systemd writes the files of these cgroups; who writes them himself is overwritten at the next reload. A cgroup that is
delegated (`delegate=True`) is left alone below its own level.

Source: org.freedesktop.systemd1(5); systemd's CONTROL_GROUP_INTERFACE.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from kernelproof.impl.cgroups.devices.rules import DeviceRule
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.errors import NoControllerError, SystemdError
from kernelproof.impl.cgroups.layout import read_layout
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.planning import wanted_controllers
from kernelproof.impl.cgroups.systemd.bus import MANAGER, Bus
from kernelproof.impl.cgroups.systemd.names import check_unit
from kernelproof.impl.cgroups.systemd.properties import Property, plan_devices, plan_properties

BOOTED = "/run/systemd/system"  # sd_booted(3)

_PROPERTIES = "org.freedesktop.DBus.Properties"
_KINDS = {"scope": "org.freedesktop.systemd1.Scope", "slice": "org.freedesktop.systemd1.Slice"}


class Unit(NamedTuple):
    """A unit that is there: its name, and its cgroup as a path from the root of the hierarchy."""

    name: str
    cgroup: str


def is_booted(directory: str | os.PathLike[str] = BOOTED) -> bool:
    """Whether systemd is this system's init. Source: sd_booted(3)."""
    return os.path.isdir(directory)


def check_given(limits: Limits, own: Directory) -> None:
    """Raises: NoControllerError: the manager whose cgroup this is was not given the controller of a limit."""
    missing = [name for name in wanted_controllers(limits) if name not in own.controllers()]
    if missing:
        raise NoControllerError(
            f"the manager at {own.path} has no {', '.join(missing)}, so the limits would mean nothing: give it by "
            "Delegate= of user@.service"
        )


class Manager:
    """systemd's system or user manager. Use it in a `with`, or close it.

    Args:
        bus: owned from here on.
        timeout_seconds: for each call, its job included.
    """

    def __init__(self, bus: Bus, timeout_seconds: float = 30.0, *, is_user: bool = False) -> None:
        self._bus = bus
        self._timeout = timeout_seconds
        self._is_user = is_user

    @classmethod
    def open(cls, *, user: bool = False, timeout_seconds: float = 30.0) -> Manager:
        """Connect to a manager.

        Args:
            user: the user's own; else the system's.
            timeout_seconds: for each call, its job included.

        Raises:
            NoControllerError: there is none, or no jeepney.
            SystemdError, TimeoutError: it does not answer.
        """
        bus = Bus.open(user=user, timeout_seconds=timeout_seconds)
        try:
            bus.call("Subscribe", "", timeout_seconds=timeout_seconds)
        except BaseException:
            bus.close()
            raise
        return cls(bus, timeout_seconds, is_user=user)

    def start_scope(
        self,
        name: str,
        pids: Iterable[int],
        *,
        slice: str | None = None,
        limits: Limits | None = None,
        devices: Sequence[DeviceRule] | None = None,
        delegate: bool = False,
        description: str = "",
    ) -> Unit:
        """Make a scope with processes that are there.

        Args:
            name: with .scope behind.
            pids: in this process's PID namespace, at least one.
            slice: that it is in; the manager's own choice by default.
            limits: see `properties.plan_properties`.
            devices: that are allowed; all by default.
            delegate: leave what is below it to its owner, with all controllers.
            description: for people.

        Raises:
            LimitError: a name that is none, or a limit that systemd can't keep.
            NoControllerError: a user's manager was not given the controller of a limit.
            SystemdError: refused, or the job failed: nothing is left.
            TimeoutError: the job did not end in time; the unit is stopped.
        """
        self._check_given(limits)
        given = [Property("PIDs", "au", list(pids))]
        if not given[0].value:
            raise ValueError("a scope is made of processes that are there: no process ID is given")
        given += [Property("Description", "s", description)] if description else []
        given += [Property("Slice", "s", check_unit(slice, "slice"))] if slice is not None else []
        given += [Property("Delegate", "b", True)] if delegate else []
        given += plan_properties(limits) if limits is not None else ()
        given += plan_devices(devices) if devices is not None else ()
        return self._start(check_unit(name, "scope"), given)

    def start_slice(self, name: str, limits: Limits | None = None) -> Unit:
        """Make a slice, or find the one that is there; arguments and errors as `start_scope`."""
        self._check_given(limits)
        return self._start(check_unit(name, "slice"), plan_properties(limits) if limits is not None else ())

    def _start(self, name: str, properties: Iterable[Property]) -> Unit:
        packed = [(one.name, (one.signature, one.value)) for one in properties]
        try:
            self._run_job("StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail", packed, [])
        except TimeoutError:
            self._bus.call("StopUnit", "ss", name, "replace", timeout_seconds=self._timeout)
            raise
        return Unit(name, self.cgroup_of(name))

    def set_limits(self, name: str, limits: Limits, *, persistent: bool = False) -> None:
        """Change a unit's limits.

        Args:
            name: of the unit.
            limits: those that are None are left alone.
            persistent: over the next boot too.

        Raises:
            LimitError: one that systemd can't keep.
            NoControllerError: a user's manager was not given the controller of a limit.
            SystemdError: refused; the limits are as they were.
        """
        self._check_given(limits)
        self.set_properties(name, plan_properties(limits), persistent=persistent)

    def set_properties(self, name: str, properties: Iterable[Property], *, persistent: bool = False) -> None:
        """Change properties of a unit, all or none; errors as `set_limits`."""
        packed = [(one.name, (one.signature, one.value)) for one in properties]
        self._call("SetUnitProperties", "sba(sv)", name, not persistent, packed)

    def attach(self, name: str, pids: Iterable[int], *, below: str = "") -> None:
        """Move processes into a unit, or into a cgroup below it that was delegated.

        Raises:
            SystemdError: refused: not delegated, or no such unit.
        """
        self._call("AttachProcessesToUnit", "ssau", name, below, list(pids))

    def stop(self, name: str) -> None:
        """Stop a unit, and wait until it has: its processes get SIGTERM, then SIGKILL.

        Raises:
            SystemdError: there is none, or it did not end.
            TimeoutError: not in time.
        """
        self._run_job("StopUnit", "ss", name, "replace")

    def kill(self, name: str, signal: int) -> None:
        """Send a signal to all processes of a unit."""
        self._call("KillUnit", "ssi", name, "all", signal)

    def freeze(self, name: str) -> None:
        """Freeze a unit; over when it is."""
        self._call("FreezeUnit", "s", name)

    def thaw(self, name: str) -> None:
        """Let a unit go on."""
        self._call("ThawUnit", "s", name)

    def reset_failed(self, name: str) -> None:
        """Forget that a unit failed, so that its name is free again; one that is not there is forgotten already."""
        try:
            self._call("ResetFailedUnit", "s", name)
        except SystemdError as error:
            if error.name != "org.freedesktop.systemd1.NoSuchUnit":
                raise

    def cgroup_of(self, name: str) -> str:
        """The cgroup of a unit: a path from the root of the hierarchy.

        Raises:
            SystemdError: there is no such unit.
        """
        return str(self.property_of(name, "ControlGroup"))

    def property_of(self, name: str, member: str) -> Any:
        """A property of a scope or slice, as D-Bus has it.

        Raises:
            SystemdError: no such unit or property.
        """
        (path,) = self._call("GetUnit", "s", name)
        kind = _KINDS.get(name.rpartition(".")[2], "org.freedesktop.systemd1.Service")
        (value,) = self._bus.call(
            "Get", "ss", kind, member, path=path, interface=_PROPERTIES, timeout_seconds=self._timeout
        )
        return value[1]

    def _check_given(self, limits: Limits | None) -> None:
        # A user's manager takes limits of controllers that it has not, and nothing comes of them.
        if not self._is_user or limits is None or (hierarchy := read_layout().unified) is None:
            return
        (value,) = self._bus.call(
            "Get", "ss", MANAGER, "ControlGroup", interface=_PROPERTIES, timeout_seconds=self._timeout
        )
        with Directory.open(hierarchy, value[1]) as own:
            check_given(limits, own)

    def _call(self, member: str, signature: str, *values: object) -> tuple[Any, ...]:
        return self._bus.call(member, signature, *values, timeout_seconds=self._timeout)

    def _run_job(self, member: str, signature: str, *values: object) -> None:
        deadline = time.monotonic() + self._timeout
        with self._bus.signals("JobRemoved", self._timeout) as queue:
            (job,) = self._call(member, signature, *values)
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), job)
                _, path, unit, result = self._bus.next_signal(queue, left)
                if path == job:
                    break
        if result not in ("done", "skipped"):
            raise SystemdError(member, result, f"the job of {unit} ended so: see systemctl status {unit}")

    def close(self) -> None:
        """Close the connection; units stay."""
        self._bus.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()
