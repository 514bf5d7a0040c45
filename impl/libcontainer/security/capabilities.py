"""The five sets of capabilities of the container's process.

The order is forced: the bounding set first, while CAP_SETPCAP is there; then the user, keeping what is permitted; then
permitted, effective and inheritable in one call; the ambient set last, as it must be within two of the others. What the
runtime itself does not have can't be given: it is left out and told, not an error.

Inheritable is exactly what the configuration says, and empty where it says nothing: a program of the image with file
capabilities would else have them for any user.

Source: capabilities(7); OCI runtime specification 1.3, config.md, "Linux Process".
"""

from __future__ import annotations

import errno

from kernelproof.impl._syscalls.capabilities import (
    bounding_has,
    capget,
    capset,
    clear_ambient,
    limit_bounding,
    raise_ambient,
)
from kernelproof.impl._syscalls.prctl import PR_SET_NO_NEW_PRIVS, prctl
from kernelproof.impl.libcontainer.config.names import CAPABILITIES
from kernelproof.impl.libcontainer.operations import Operation, Site

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NUMBERS = {name: number for number, name in enumerate(CAPABILITIES)}
SYS_ADMIN = 21
_MOST = 64


def mask_of(names: Iterable[str]) -> tuple[int, tuple[str, ...]]:
    """Return the set of some names, and the names that nobody knows.

    >>> mask_of(("CAP_CHOWN", "CAP_KILL", "CAP_FLY"))
    (33, ('CAP_FLY',))
    """
    given = tuple(names)
    unknown = tuple(name for name in given if name not in NUMBERS)
    return sum({1 << NUMBERS[name] for name in given if name in NUMBERS}), unknown


def names_of(mask: int) -> tuple[str, ...]:
    """Return the names in a set, by number; one that has no name yet is shown as its number.

    >>> names_of(33), names_of(1 << 50)
    (('CAP_CHOWN', 'CAP_KILL'), ('50',))
    """
    return tuple(
        CAPABILITIES[number] if number < len(CAPABILITIES) else str(number)
        for number in range(mask.bit_length())
        if mask >> number & 1
    )


def shown(mask: int) -> str:
    """A set for people."""
    names = names_of(mask)
    if len(names) == len(CAPABILITIES):
        return "all"
    return " ".join(name.removeprefix("CAP_").lower() for name in names) or "none"


def read_bounding() -> int:
    """Return the calling thread's bounding set."""
    return sum(1 << number for number in _bounding())


def _bounding() -> Iterator[int]:
    for number in range(_MOST):
        try:
            if bounding_has(number):
                yield number
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return


def refuse(site: Site, what: str, mask: int) -> None:
    """Notes what was asked for and is not granted."""
    if mask:
        refused = site.found.setdefault("refused", [])
        assert isinstance(refused, list)
        refused.append(f"{what} capabilities that the runtime does not have: {shown(mask)}")


class LimitCapabilities(Operation):
    """Takes all but some capabilities out of the bounding set: no program will ever gain them."""

    __slots__ = ("bounding",)
    stage = "final"
    bounding: int

    def describe(self) -> str:
        """What will happen."""
        return f"limit capabilities to {shown(self.bounding)}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EPERM: CAP_SETPCAP is missing.
        """
        refuse(site, "bounding", self.bounding & ~limit_bounding(self.bounding))


class SetCapabilities(Operation):
    """Sets permitted, effective, inheritable and ambient capabilities.

    Attributes:
        kept: what stays permitted and effective beyond that until FinishCapabilities: what a later step needs.
    """

    __slots__ = ("ambient", "effective", "inheritable", "kept", "permitted")
    stage = "final"
    ambient: int
    effective: int
    inheritable: int
    kept: int
    permitted: int

    def describe(self) -> str:
        """What will happen."""
        sets = ("permitted", "effective", "inheritable", "ambient")
        return "set capabilities: " + "; ".join(f"{name} {shown(getattr(self, name))}" for name in sets)

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EPERM: the kernel refuses what should be within bounds.
        """
        _, own, inheritable = capget()
        bounding = read_bounding() if self.inheritable else 0
        permitted = self.permitted & own
        effective = self.effective & permitted
        inherited = self.inheritable & (bounding | inheritable)
        ambient = self.ambient & permitted & inherited
        capset(effective | self.kept & own, permitted | self.kept & own, inherited)
        clear_ambient()
        for number in range(ambient.bit_length()):
            if ambient >> number & 1:
                raise_ambient(number)
        site.found["capabilities"] = (effective, permitted, inherited)
        for name, granted in (("permitted", permitted), ("inheritable", inherited), ("ambient", ambient)):
            refuse(site, name, getattr(self, name) & ~granted)


class FinishCapabilities(Operation):
    """Gives up what SetCapabilities kept for steps between."""

    __slots__ = ()
    stage = "final"

    def describe(self) -> str:
        """What will happen."""
        return "give up the capabilities that the steps before needed"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            LookupError: SetCapabilities was not done.
        """
        finish(site)


def finish(site: Site) -> None:
    """Sets the three sets to what SetCapabilities found to be granted."""
    sets = site.found.get("capabilities")
    if not isinstance(sets, tuple):
        raise LookupError("no capabilities were set yet: SetCapabilities comes first")
    effective, permitted, inheritable = sets
    capset(effective, permitted, inheritable)


class ForbidNewPrivileges(Operation):
    """Sets no_new_privs: no execve will grant what the process does not have."""

    __slots__ = ()
    stage = "final"

    def describe(self) -> str:
        """What will happen."""
        return "forbid new privileges"

    def do(self, site: Site) -> None:
        """Does it. Nothing refuses it."""
        prctl(PR_SET_NO_NEW_PRIVS, 1)
