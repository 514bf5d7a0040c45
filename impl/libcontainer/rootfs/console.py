"""The container's terminal: a pair from its own devpts, used by descriptors, and bound on /dev/console by one.

A path such as /dev/pts/0 is the image's to decide until the very moment it is used; the master's peer is not.
"""

from __future__ import annotations

import os
from errno import ENOENT, ENOTDIR

from kernelproof.impl.libcontainer.operations import Operation, Remedy, Site
from kernelproof.impl.libcontainer.rootfs.devices import open_node_place
from kernelproof.impl.libcontainer.rootfs.places import require_exact, root_of
from kernelproof.impl.mount.detached import DetachedMount
from kernelproof.impl.mount.roads import attach_in_root
from kernelproof.impl.term.linux import check_on_devpts
from kernelproof.impl.term.pairs import PseudoterminalPair, give_console
from kernelproof.impl.term.window import WindowSize

DEVPTS = "/dev/pts"


class OpenTerminal(Operation):
    """Opens a pseudoterminal pair of the container's own devpts, and gives the peer to the process's user.

    The descriptors are `master` and `terminal` of the site; `site.found["terminal"]` is its path inside.
    """

    __slots__ = ("uid", "height", "width")  # noqa: RUF023
    stage = "init"
    uid: int
    height: int
    width: int

    def describe(self) -> str:
        """What will happen."""
        return f"open a terminal of {self.height} by {self.width} on {DEVPTS}, for user {self.uid}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: ENOENT, ENOTDIR no devpts is mounted on /dev/pts; ENOSPC no pseudoterminal is left.
            NotPseudoterminalError: something else is in its place.
            UnsafePathError: ELOOP a link leads to /dev/pts.
        """
        try:
            devpts = root_of(site).open(DEVPTS, os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            if error.errno in (ENOENT, ENOTDIR):
                error.add_note(Remedy("a terminal needs a devpts on /dev/pts: list one among the mounts"))
            raise
        try:
            require_exact(site, devpts, DEVPTS)
            size = WindowSize(self.height, self.width) if self.height or self.width else None
            with PseudoterminalPair.open(size, devpts=devpts) as pair:
                peer = pair.peer()
                site.descriptors["terminal"] = peer
                site.descriptors["master"] = os.dup(pair.master)
                site.found["terminal"] = pair.name
            give_console(peer, self.uid)
        finally:
            os.close(devpts)


class BindConsole(Operation):
    """Binds the terminal on /dev/console."""

    __slots__ = ("path",)
    stage = "init"
    path: str

    def describe(self) -> str:
        """What will happen."""
        return f"bind the terminal on {self.path}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            LookupError: no terminal was opened.
            UnsafePathError: EEXIST a directory or link is in the way; ELOOP a link on the way.
            NotPseudoterminalError: the terminal is on no devpts.
            OSError: EROFS; EPERM.
        """
        if "terminal" not in site.descriptors:
            raise LookupError("no terminal is open yet: the operation that opens it comes first")
        terminal = site.descriptors["terminal"]
        check_on_devpts(terminal)
        place = open_node_place(site, self.path)
        try:
            with DetachedMount.copy(terminal) as made:
                attach_in_root(root_of(site), place, made)
        finally:
            os.close(place)
