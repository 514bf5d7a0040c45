"""The runtime's walk: what it can have ready while the container's process is at work, it has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from kernelproof.impl.libcontainer.operations import Operation, Site, StartError
from kernelproof.impl.libcontainer.process.channel import Channel, open_channel
from kernelproof.impl.libcontainer.process.walking import Birth, Child, HostWalk

done: list[str] = []
others: list[Channel] = []  # the process's ends


class Inside(Operation):
    """What the process does."""

    __slots__ = ()
    stage: ClassVar[str] = "init"


class Outside(Operation):
    """What the runtime does; `fails`: whether it can't be got ready."""

    __slots__ = ("fails", "name")
    stage: ClassVar[str] = "host"
    fails: bool
    name: str

    def describe(self) -> str:
        return self.name

    def prepare(self, site: Site) -> None:
        done.append(f"ready {self.name}")
        if self.fails:
            raise ValueError("it can't be had")

    def do(self, site: Site) -> None:
        done.append(f"do {self.name}")

    def undo(self, site: Site) -> None:
        done.append(f"undo {self.name}")


class Waiting(Channel):
    """A channel that says when it is read."""

    __slots__ = ()

    def receive(self):  # type: ignore[no-untyped-def]  # as it is there
        done.append("wait")
        return super().receive()


class Process(Child):
    """A process that is none."""

    __slots__ = ()

    def kill(self) -> None:
        done.append("kill")


class Born(Birth):
    """Its making; `reached`: the operations that it comes to, one after the other."""

    __slots__ = ("reached",)
    reached: tuple[int, ...]

    def make(self, site: Site) -> Child:
        ours, theirs = open_channel()
        for number in self.reached:
            theirs.send(number, "reached")
        ours.__class__ = Waiting
        others.append(theirs)
        return Process(1, -1, ours, is_ours=True)


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    done.clear()
    yield
    while others:
        others.pop().close()


def test_what_comes_next_is_got_ready_before_the_wait() -> None:
    """The operations of the runtime up to the process's next one, in their order; the rest at the next wait."""
    plan = (Born((2, 5)), Inside(), Outside(False, "one"), Outside(False, "two"), Inside(), Outside(False, "three"))
    walk = HostWalk(plan, Site())
    walk.run()
    assert done == ["ready one", "ready two", "wait", "do one", "do two", "ready three", "wait", "do three"]
    walk.undo()


def test_what_can_not_be_got_ready_is_that_operations_failure() -> None:
    """It is told of that operation's stage, nothing is waited for, and what was done is undone."""
    walk = HostWalk((Outside(False, "zero"), Born((3,)), Inside(), Outside(True, "one")), Site())
    with pytest.raises(StartError, match="it can't be had") as caught:
        walk.run()
    assert (caught.value.stage, caught.value.call) == ("host", "Outside")
    assert done == ["do zero", "ready one", "kill", "undo zero"]
