"""The scratch disc of the profile `disk`: private, and honest when its power is cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernelproof.vm.machine import Machine
from kernelproof.vm.snapshot import SessionTemplate
from kernelproof.vm.template import Template

# An idle machine's time jumps: on a busy host it is the guest's next minute before the cut comes, and what was not
# flushed would be, by the clock. So nothing is written back for being old.
MOUNT = """
    mkdir -p /mnt && mount -o commit=86400 /dev/disc/scratch /mnt
    echo 0 > /proc/sys/vm/dirty_writeback_centisecs
"""


def run(machine: Machine, script: str) -> str:
    done = machine.run(["sh", "-ec", script])
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=["virtual", "real"])
def formatted(request: pytest.FixtureRequest) -> Iterator[SessionTemplate]:
    """A template whose scratch disc has a file system with two stores, all of it flushed."""

    def prepare(machine: Machine) -> str:
        stores = "; ".join(
            f"sqlite3 /mnt/{name} 'pragma journal_mode=wal; create table t(a); pragma wal_checkpoint(truncate)'"
            for name in ("off", "full")
        )
        return run(machine, f"mkfs.ext4 -q /dev/disc/scratch; {MOUNT} {stores}; umount /mnt")

    with Template("6.12", profile="disk", time=request.param) as template:
        session, _ = template.session(prepare)
    yield session
    session.close()


def test_power_cut(formatted: SessionTemplate) -> None:
    """A store that does not sync loses what it committed, one that does keeps it; that is what makes a cut honest."""
    insert = "; ".join(f"sqlite3 /mnt/{name} 'pragma synchronous={name}; {INSERT}'" for name in ("off", "full"))
    with formatted.clone() as machine:
        run(machine, MOUNT)
        run(machine, insert)
        run(machine, "cat /proc/uptime; sqlite3 /mnt/off 'select count(*) from t'")
        after = machine.power_cut()
        with pytest.raises(RuntimeError, match="closed"):
            machine.run(["true"])
    with after:
        run(after, MOUNT)
        assert run(after, f"sqlite3 /mnt/full '{COUNT}'") == "ok\n3\n"
        assert run(after, f"sqlite3 /mnt/off '{COUNT}'") == "ok\n0\n"


INSERT = "begin; insert into t values(1); insert into t values(2); insert into t values(3); commit"
COUNT = "pragma integrity_check; select count(*) from t"


def test_cut_after_cut(formatted: SessionTemplate) -> None:
    """The machine after a cut has a disc that can lose its power like any other."""
    machine = formatted.clone()
    for text in ("one", "two"):
        run(machine, f"{MOUNT} echo {text} > /mnt/{text}; sync; echo {text} > /mnt/{text}-lost")
        machine = machine.power_cut()
    with machine:
        assert run(machine, f"{MOUNT} ls /mnt") == "full\nlost+found\noff\none\ntwo\n"


def test_private(formatted: SessionTemplate) -> None:
    """What one machine writes to its disc, flushed or not, no other finds."""
    with formatted.clone() as first:
        run(first, f"{MOUNT} touch /mnt/mine; sync")
        with formatted.clone() as second:
            assert "mine" not in run(second, f"{MOUNT} ls /mnt")


def test_cut_without_a_disc(machine: Machine) -> None:
    """A machine without such a disc says so, and goes on."""
    with pytest.raises(RuntimeError, match="profile `disk`"):
        machine.power_cut()
    assert machine.run(["true"]).returncode == 0
