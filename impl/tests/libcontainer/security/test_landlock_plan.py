"""What of a Landlock policy a kernel can do, and which policies contradict themselves."""

from __future__ import annotations

import pytest

from kernelproof.impl.libcontainer.config.own import Landlock, LandlockPath
from kernelproof.impl.libcontainer.security.landlock import (
    FILE_RIGHTS,
    LandlockError,
    Policy,
    handled_rights,
    is_below,
    plan_policy,
    rights_of,
)

READ = ("read_file", "read_dir")


def test_versions_have_their_rights() -> None:
    """Each version adds what it brought, and takes nothing."""
    counts = [len(rights_of(version)) for version in range(1, 11)]
    assert counts == [13, 14, 15, 15, 16, 16, 16, 16, 17, 17]


def handle_all_that_the_kernel_has(policy: Landlock, version: int) -> Policy:
    """The wrong variant: whatever this kernel can deny is denied, so a newer kernel tightens an old policy."""
    return plan_policy(policy.replace(abi=version), version)


@pytest.mark.rule("K15", ours=plan_policy, wrong=handle_all_that_the_kernel_has, raises=AssertionError)
def test_newer_kernel_does_not_tighten(subject) -> None:  # type: ignore[no-untyped-def]
    """A policy handles on a newer kernel exactly what it handles on one of its own version."""
    policy = Landlock(1, paths=(LandlockPath("/usr", READ),))
    assert subject(policy, 7).fs == subject(policy, 1).fs == (1 << 13) - 1


@pytest.mark.rule("K15")
def test_strict_or_best_effort_is_a_choice() -> None:
    """What an older kernel lacks is an error of a strict policy, and told by one that is not."""
    policy = Landlock(6, paths=(LandlockPath("/usr", READ),), handle_tcp=True, scopes=("signal",))
    with pytest.raises(LandlockError, match=r"bind_tcp needs version 4.*version 2 is here, and the policy is strict"):
        plan_policy(policy, 2)
    found = plan_policy(policy.replace(strict=False), 2)
    assert (found.fs, found.net, found.scoped) == ((1 << 14) - 1, 0, 0)
    assert found.lost == tuple(
        f"{name} needs version {since} of Landlock"
        for name, since in (("truncate", 3), ("ioctl_dev", 5), ("bind_tcp", 4), ("connect_tcp", 4), ("signal", 6))
    )
    with pytest.raises(LandlockError, match="this kernel has none, or it is off"):
        plan_policy(policy, 0)


def allow_what_is_written(policy: Landlock, version: int) -> object:
    """The wrong variant: each rule is handed on, also one that is read as a denial and is none."""
    return [(each.path, each.rights) for each in policy.paths]


@pytest.mark.rule("K15", ours=plan_policy, wrong=allow_what_is_written, raises=pytest.fail.Exception)
def test_deeper_rule_does_not_take_away(subject) -> None:  # type: ignore[no-untyped-def]
    """A rule for a path below another one, with fewer rights, is an error that says that rights add up."""
    narrower = (LandlockPath("/srv", ("read_file", "write_file")), LandlockPath("/srv/data", ("read_file",)))
    with pytest.raises(LandlockError, match="/srv/data can't have less than /srv above it: write_file"):
        subject(Landlock(1, paths=narrower), 7)


def test_other_rights_below_add_up() -> None:
    """A deeper rule with other rights is fine, and so is one with more."""
    wider = (LandlockPath("/srv", ("read_file",)), LandlockPath("/srv/data", ("read_file", "write_file")))
    assert plan_policy(Landlock(1, paths=wider), 7).paths == (("/srv", 1 << 2), ("/srv/data", 1 << 2 | 1 << 1))


def test_ports_and_files_are_handled_apart() -> None:
    """A policy of ports leaves files alone; one of files leaves ports alone; a port has the rights it is named for."""
    ports = plan_policy(Landlock(4, bind_tcp=(80, 443), connect_tcp=(443,)), 4)
    assert (ports.fs, ports.net, ports.ports) == (0, 3, ((80, 1), (443, 3)))
    files = plan_policy(Landlock(4), 4)
    assert (files.net, files.fs) == (0, (1 << 15) - 1)
    assert handled_rights(Landlock(6, scopes=("signal",))) == ()


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (Landlock(0), "0 is no version"),
        (Landlock(11), "11 is no version"),
        (Landlock(1, handled=("fly",)), "no right of files 'fly'"),
        (Landlock(1, handled=("truncate",)), "truncate came with version 3, the policy is written for 1"),
        (Landlock(1, scopes=("signal",)), "signal came with version 6"),
        (Landlock(1, bind_tcp=(80,)), "TCP came with version 4"),
        (Landlock(1, paths=(LandlockPath("/", ()),)), "allows nothing"),
        (Landlock(1, handled=("execute",), paths=(LandlockPath("/", READ),)), "does not handle"),
    ],
    ids=str,
)
def test_contradiction_is_an_error(policy: Landlock, told: str) -> None:
    """A policy that can't be meant is refused whatever the kernel."""
    with pytest.raises(LandlockError, match=told):
        plan_policy(policy, 10)


def test_below() -> None:
    """A path lies below a directory by whole components."""
    below = [is_below(path, "/srv") for path in ("/srv", "/srv/", "/srv/a", "/srvx", "/", "/srv/../etc")]
    assert below == [True, True, True, False, False, False]
    assert is_below("/anything", "/")


def test_each_right_has_a_bit_of_its_own() -> None:
    """No two rights share a bit."""
    assert len({place for place, _ in FILE_RIGHTS.values()}) == len(FILE_RIGHTS)
