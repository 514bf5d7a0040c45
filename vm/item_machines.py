"""Gives each item its machine: a new one, or in a wider scope the one that the item before it used."""

from __future__ import annotations

from typing import Protocol

import pytest

from kernelproof.vm.process import Usage
from kernelproof.vm.selection import ASSIGNMENT, MachineKey
from kernelproof.vm.sessions import ItemMachine, OpenSession
from kernelproof.vm.variation import Variation

_COLLECTORS: dict[str, type[pytest.Collector]] = {
    "class": pytest.Class,
    "module": pytest.File,  # type: ignore[type-abstract]  # it is looked for, not made
    "session": pytest.Session,
}


class Room(Protocol):
    """What all machines of a run share."""

    def take(self) -> None:
        """Wait until there is room for one more machine. Raises ProvisionError."""

    def give_back(self) -> None:
        """Say that a machine is gone."""


class AllRoom:
    """Of a run in one process, which has one machine at a time."""

    def take(self) -> None:
        """Nothing to wait for."""

    def give_back(self) -> None:
        """Nobody to tell."""


def belongs(item: pytest.Item, other: pytest.Item | None, scope: str) -> bool:
    """Whether the other item runs in the machine of the item, in a scope of `RunOptions`."""
    if other is None or scope == "test" or ASSIGNMENT not in other.stash or ASSIGNMENT not in item.stash:
        return False
    if item.stash[ASSIGNMENT].key != other.stash[ASSIGNMENT].key:
        return False
    found = [each.getparent(_COLLECTORS[scope]) for each in (item, other)]
    return found[0] is not None and found[0] is found[1]


class ItemMachines:
    """At most one machine at a time.

    Args:
        scope: As in `RunOptions`.
        room: Where machines have to fit.
    """

    def __init__(self, scope: str, room: Room) -> None:
        self._scope = scope
        self._room = room
        self._machine: ItemMachine | None = None
        self._key: MachineKey | None = None
        self._told = ""

    def take(self, key: MachineKey, opened: OpenSession, variation: Variation | None) -> ItemMachine:
        """The machine for the next item.

        Raises:
            MachineLost, ProvisionError: there is none to be had.
            OSError: EMFILE, EAGAIN, ENOMEM: no descriptors or processes left.
        """
        if self._machine is not None and self._key == key:
            return self._machine
        self.drop()
        self._room.take()
        try:
            machine = opened.machines.clone() if variation is None else opened.machines.clone(variation)
        except BaseException:
            self._room.give_back()
            raise
        self._machine, self._key, self._told = machine, key, ""
        return machine

    def following(self, item: pytest.Item, nextitem: pytest.Item | None) -> pytest.Item | None:
        """The next item if it runs in the machine of this one."""
        return nextitem if belongs(item, nextitem, self._scope) else None

    def log(self) -> str:
        """What the machine's console showed since this was asked for the last time."""
        if self._machine is None:
            return ""
        text, told = self._machine.log(), self._told
        self._told = text
        return text[len(told) :] if told and text.startswith(told) else text

    def drop(self) -> Usage | None:
        """Close the machine, if there is one, and say what it used."""
        machine, self._machine = self._machine, None
        if machine is None:
            return None
        try:
            return machine.close()
        finally:
            self._room.give_back()
