"""Resource limits and the adjustment of the OOM killer's score.

A limit is set in two steps. A higher hard limit is taken while the runtime has the right to; soft and hard limits
become what was asked only as one of the last steps, as a small one would hit this interpreter instead of the program.

Source: getrlimit(2); proc_pid_oom_score_adj(5); OCI runtime specification 1.3, config.md, "POSIX process".
"""

from __future__ import annotations

import errno

from kernelproof.impl._syscalls.limits import prlimit
from kernelproof.impl.libcontainer.config.names import RLIMITS
from kernelproof.impl.libcontainer.operations import Operation, Remedy, Site
from kernelproof.impl.libcontainer.security.procfs import write_of, write_own

_NUMBERS = {name: number for number, name in enumerate(RLIMITS)}
_INFINITY = 2**64 - 1


def number_of(name: str) -> int:
    """Return the number of a limit.

    Raises:
        ValueError: nobody knows it.
    """
    if name not in _NUMBERS:
        raise ValueError(f"there is no limit {name!r}; known: {', '.join(RLIMITS)}")
    return _NUMBERS[name]


def _shown(value: int) -> str:
    return "unlimited" if value == _INFINITY else str(value)


class RaiseLimit(Operation):
    """Raises a hard limit that is lower than what was asked."""

    __slots__ = ("hard", "name")
    stage = "final"
    hard: int
    name: str

    def describe(self) -> str:
        """What will happen."""
        return f"raise the hard limit {self.name} to {_shown(self.hard)} if it is lower"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EPERM: CAP_SYS_RESOURCE is missing.
        """
        _raise_hard(0, self.name, self.hard)


def _raise_hard(pid: int, name: str, wanted: int) -> None:
    resource = number_of(name)
    soft, hard = prlimit(pid, resource)
    if hard < wanted:
        try:
            prlimit(pid, resource, (soft, wanted))
        except PermissionError as error:
            error.add_note(Remedy(f"{name}: {_shown(hard)} is the most without CAP_SYS_RESOURCE"))
            raise


class RaiseLimitOutside(Operation):
    """As RaiseLimit, by the runtime: in a user namespace the process has no CAP_SYS_RESOURCE that counts for it."""

    __slots__ = ("hard", "name")
    stage = "host"
    late = True
    hard: int
    name: str

    def describe(self) -> str:
        """What will happen."""
        return (
            f"raise the hard limit {self.name} to {_shown(self.hard)} if it is lower, from outside the user namespace"
        )

    def do(self, site: Site) -> None:
        """Does it; errors as RaiseLimit."""
        pid = site.found["pid"]
        assert isinstance(pid, int)
        _raise_hard(pid, self.name, self.hard)


class SetLimit(Operation):
    """Sets soft and hard limit."""

    __slots__ = ("hard", "name", "soft")
    stage = "final"
    hard: int
    name: str
    soft: int

    def describe(self) -> str:
        """What will happen."""
        return f"set the limit {self.name} to {_shown(self.soft)}, hard {_shown(self.hard)}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EINVAL: soft above hard; EPERM.
        """
        prlimit(0, number_of(self.name), (self.soft, self.hard))


class AdjustOomScore(Operation):
    """Adjusts how soon the OOM killer takes the process; `tolerant` where a runtime without rights may not go lower."""

    __slots__ = ("score", "tolerant")
    stage = "final"
    score: int
    tolerant: bool

    def describe(self) -> str:
        """What will happen."""
        return f"adjust the OOM killer's score by {self.score}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EACCES: lower than it was, without CAP_SYS_RESOURCE; EINVAL: not -1000 to 1000.
            UnsafePathError: something is mounted over the file.
        """
        try:
            write_own(site, ("oom_score_adj",), str(self.score))
        except OSError as error:
            if not (self.tolerant and error.errno == errno.EACCES and type(error) is PermissionError):
                raise
            site.refuse(f"an OOM score of {self.score}: lower than the runtime's, which has no CAP_SYS_RESOURCE")


class AdjustOomScoreOutside(Operation):
    """Adjusts the score by the runtime: in a user namespace the process may not go lower."""

    __slots__ = ("score",)
    stage = "host"
    late = True
    score: int

    def describe(self) -> str:
        """What will happen."""
        return f"adjust the OOM killer's score by {self.score}, from outside the user namespace"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EACCES: lower than it was, without CAP_SYS_RESOURCE; ESRCH.
            ValueError: /proc is something else.
        """
        pid = site.found["pid"]
        assert isinstance(pid, int)
        write_of(pid, "oom_score_adj", str(self.score))
