"""Lending between processes of one host, with templates that are none: who builds, how often, when they are dropped."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from kernelproof.vm.errors import GuestError, VmError
from kernelproof.vm.lending import Borrower, Budget, Lender, _write_plan
from kernelproof.vm.memory import HOST_SHARE_MIB, MIB
from kernelproof.vm.messages import Plain
from kernelproof.vm.selection import MachineKey
from kernelproof.vm.sessions import Collected, OpenSession, SessionPlan
from kernelproof.vm.snapshot import SessionTemplate

PLAN = SessionPlan(MachineKey("6.12", "plain", "virtual"), (Path("/p/test_a.py"),), {"kind": "session"})
OTHER = PLAN.__class__(PLAN.key._replace(profile="disk"), PLAN.files, PLAN.message)
FACTS = {"machine": {"time": "virtual", "cpus": 2}}
COLLECTED = {"nodeids": ["test_a.py::test_it"], "reports": [], "warnings": []}


class Template(SessionTemplate):
    """One that is only exported and closed."""

    def __init__(self) -> None:
        self.closed = 0

    @property
    def size_bytes(self) -> int:
        return 100 * MIB

    def export(self) -> dict[str, Plain]:
        return {"owner": os.getpid()}

    def close(self) -> None:
        self.closed += 1


class Builder:
    """What the lender builds with."""

    def __init__(self) -> None:
        self.plans: list[SessionPlan] = []
        self.made: list[Template] = []
        self.error: Exception | None = None
        self.cancelled = 0

    def __call__(self, plan: SessionPlan) -> OpenSession:
        self.plans.append(plan)
        if self.error is not None:
            raise self.error
        self.made.append(Template())
        return OpenSession(self.made[-1], FACTS, Collected(COLLECTED))

    def cancel(self) -> None:
        self.cancelled += 1


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Builder:
    monkeypatch.setattr(SessionTemplate, "attach", classmethod(lambda cls, exported: cast("object", exported)))
    return Builder()


@pytest.fixture
def lender(builder: Builder) -> Iterator[Lender]:
    lender = Lender(builder, builder.cancel, Budget(1000 * MIB))
    yield lender
    lender.close()


@pytest.fixture
def borrowers(lender: Lender) -> Iterator[list[Borrower]]:
    made = [Borrower(lender.address) for _ in range(3)]
    yield made
    for borrower in made:
        borrower.close()


def test_built_once(lender: Lender, builder: Builder, borrowers: list[Borrower]) -> None:
    """However many ask, at once or one after the other, a template is built once a kind."""
    opened: list[OpenSession] = []

    def borrow(borrower: Borrower) -> None:
        opened.append(borrower.open(PLAN, 3))

    threads = [threading.Thread(target=borrow, args=(borrower,)) for borrower in borrowers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    opened.append(borrowers[0].open(OTHER, 1))
    assert builder.plans == [PLAN, OTHER]
    assert [session.cpus for session in opened] == [2, 2, 2, 2]
    assert opened[0].explain_missing("test_a.py::test_it") is None
    assert opened[0].explain_missing("test_a.py::test_other") is not None
    told = lender.take_told()
    assert [key for _, key, _ in told] == [PLAN.key, OTHER.key]
    assert lender.take_told() == []


def test_others_go_on_while_one_is_built(
    lender: Lender, builder: Builder, borrowers: list[Borrower], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that has its template runs items while another's is built; who wants the new one waits for it."""
    begun, go_on = threading.Event(), threading.Event()

    def build_slowly(plan: SessionPlan) -> OpenSession:
        if plan == OTHER:
            begun.set()
            assert go_on.wait(60)
        return builder(plan)

    monkeypatch.setattr(lender, "_build", build_slowly)
    borrowers[0].open(PLAN, 2)
    waiting = [threading.Thread(target=borrower.open, args=(OTHER, 1)) for borrower in borrowers[1:]]
    waiting[0].start()
    assert begun.wait(60)
    waiting[1].start()
    for _ in range(2):
        borrowers[0].take()
        borrowers[0].give_back()
        borrowers[0].done(PLAN)
    borrowers[0].take()  # answered after what was told before
    borrowers[0].give_back()
    assert builder.made[0].closed == 1
    assert builder.plans == [PLAN]
    go_on.set()
    for thread in waiting:
        thread.join()
    assert builder.plans == [PLAN, OTHER]


def test_dropped_after_its_last_item(lender: Lender, builder: Builder, borrowers: list[Borrower]) -> None:
    """A template is given back when as many items have run as there are, whichever worker ran them; and not twice."""
    for borrower in borrowers[:2]:
        borrower.open(PLAN, 3)
    for borrower in (borrowers[0], borrowers[1], borrowers[1]):
        assert builder.made[0].closed == 0
        borrower.done(PLAN)
        borrower.take()  # answered after what was told before
        borrower.give_back()
    assert builder.made[0].closed == 1


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (VmError("find kernel", "6.12", "gone", "take another"), "find kernel: 6.12: gone\n  remedy: take another"),
        (GuestError("session", "OSError", "OSError: no\nmore"), "the guest's traceback in the error's `text`\nOSError"),
        (FileNotFoundError(2, "No such file", "/p/x"), r"make template: .*: \[Errno 2\] No such file: '/p/x'"),
    ],
    ids=["ours", "guest", "system"],
)
def test_what_can_not_be_built(
    error: Exception, says: str, lender: Lender, builder: Builder, borrowers: list[Borrower]
) -> None:
    """What hindered the controller is told to every worker, and tried once."""
    builder.error = error
    for borrower in borrowers:
        with pytest.raises(VmError, match=says):
            borrower.open(PLAN, 3)
    assert len(builder.plans) == 1


def test_end(lender: Lender, builder: Builder, borrowers: list[Borrower]) -> None:
    """When the run ends all templates are given back, what is under way is cancelled, and nobody is served any more."""
    borrowers[0].open(PLAN, 3)
    lender.close()
    lender.close()
    assert builder.made[0].closed == 1
    assert builder.cancelled == 1
    with pytest.raises(VmError, match="the run is over"):
        borrowers[0].open(OTHER, 1)
    with pytest.raises(OSError, match="Connection refused"):
        Borrower(lender.address)


def test_end_while_a_template_is_closed(lender: Lender, builder: Builder, borrowers: list[Borrower]) -> None:
    """The end of the run waits for a template that writes itself down, and does not close it beside that."""
    borrowers[0].open(PLAN, 1)
    (template,) = builder.made
    begun, go_on = threading.Event(), threading.Event()
    inside: list[int] = []

    def close_slowly() -> None:
        inside.append(len(inside))
        begun.set()
        assert go_on.wait(60)

    template.close = close_slowly  # type: ignore[method-assign]
    borrowers[0].done(PLAN)
    assert begun.wait(60)
    ending = threading.Thread(target=lender.close)
    ending.start()
    ending.join(0.2)
    assert ending.is_alive()
    assert inside == [0]
    go_on.set()
    ending.join()


def test_controller_that_is_gone() -> None:
    """A worker whose controller dies is told so, in place of waiting for it."""
    with socket.socket(socket.AF_UNIX) as listening:
        name = f"kernelproof-test-{os.getpid()}"
        listening.bind(f"\0{name}")
        listening.listen()
        borrower = Borrower(name)
        listening.accept()[0].close()
        with pytest.raises(VmError, match="it is gone"):
            borrower.take()
        borrower.close()


def test_budget() -> None:
    """A machine that does not fit waits for another to go; one that is alone does not wait."""
    budget = Budget(250)
    budget.account(100)
    budget.take(200)  # alone: it may try
    fits = threading.Event()

    def wait() -> None:
        budget.take(100)
        fits.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not fits.wait(0.1)
    budget.account(-100)
    assert not fits.wait(0.1), "50 are left"
    budget.give_back(200)
    assert fits.wait(30)
    waiting.join()


def test_worker_that_dies(builder: Builder) -> None:
    """The room of a worker that is gone is room again."""
    lender = Lender(builder, builder.cancel, Budget(HOST_SHARE_MIB * MIB))
    first, second = (Borrower(lender.address) for _ in range(2))
    first.take()
    granted = threading.Event()

    def wait() -> None:
        second.take()
        granted.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not granted.wait(0.1)
    first.close()
    assert granted.wait(30)
    waiting.join()
    second.close()
    lender.close()


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_worker_that_dies_while_it_is_answered(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody hears of a template that was made for a dead worker, and its room is room again."""
    lender = Lender(builder, builder.cancel, Budget(HOST_SHARE_MIB * MIB))
    begun, go_on = threading.Event(), threading.Event()

    def build_slowly(plan: SessionPlan) -> OpenSession:
        begun.set()
        assert go_on.wait(60)
        return builder(plan)

    monkeypatch.setattr(lender, "_build", build_slowly)
    first, second = (Borrower(lender.address) for _ in range(2))
    first.take()
    first._tell({"kind": "open", "count": 1, **_write_plan(PLAN)})
    assert begun.wait(60)
    first.close()
    go_on.set()
    granted = threading.Event()

    def wait() -> None:
        second.take()
        granted.set()

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    assert granted.wait(30), "the room of the first was not given back"
    waiting.join()
    second.close()
    lender.close()
    for thread in threading.enumerate():
        if thread.name == "kernelproof-lender":
            thread.join(60)
    assert len(builder.made) == 1
