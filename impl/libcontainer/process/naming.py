"""The names of the container's host, in its own UTS namespace."""

from __future__ import annotations

from kernelproof.impl._syscalls.identity import setdomainname, sethostname
from kernelproof.impl.libcontainer.operations import Operation, Site


class SetNames(Operation):
    """Sets the host name and the domain name; one that is None stays as it is."""

    __slots__ = ("domain", "host")
    stage = "init"
    domain: str | None
    host: str | None

    def describe(self) -> str:
        """What will happen."""
        names = [f"{what} {name}" for what, name in (("host", self.host), ("domain", self.domain)) if name is not None]
        return f"set the names: {', '.join(names)}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EPERM; EINVAL: longer than 64 bytes.
        """
        if self.host is not None:
            sethostname(self.host)
        if self.domain is not None:
            setdomainname(self.domain)
