"""Words of options, names of parameters, paths of containers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernelproof.impl.libcontainer.operations import Site
from kernelproof.impl.libcontainer.rootfs.entering import path_of_sysctl
from kernelproof.impl.libcontainer.rootfs.opening import procfs_of
from kernelproof.impl.libcontainer.rootfs.places import clean, root_of
from kernelproof.impl.libcontainer.rootfs.words import parse_propagation, parse_words
from kernelproof.impl.mount.errors import OptionError
from kernelproof.impl.mount.options import MountAttribute, MountFlag


def test_words_for_programs_are_data() -> None:
    """What fstab has for programs is data here, in its place among the others."""
    wanted = parse_words(("nosuid", "nofail", "size=1m", "x-mount.mkdir", "", "user"))
    assert wanted.options.data == "nofail,size=1m,x-mount.mkdir,user"
    assert wanted.options.flags == MountFlag.NOSUID
    assert wanted.options.userspace == ()


def test_later_words_hold() -> None:
    """Of two words that contradict each other the later one holds; types of propagation are all kept, in order."""
    wanted = parse_words(("ro", "rw", "rro", "rrw", "shared", "rslave", "idmap", "ridmap", "bind"))
    assert not wanted.options.flags & MountFlag.RDONLY
    assert wanted.options.recursive_cleared == MountAttribute.RDONLY
    assert wanted.options.propagation == (MountFlag.SHARED, MountFlag.SLAVE | MountFlag.REC)
    assert wanted.mapped == "ridmap"
    assert wanted.is_bind


def test_propagation_that_is_none() -> None:
    """An unknown type of propagation is refused, with those there are."""
    with pytest.raises(OptionError, match="rshared"):
        parse_propagation("public")


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("kernel.msgmax", "sys/kernel/msgmax"),
        ("kernel/msgmax", "sys/kernel/msgmax"),
        ("net.ipv4.conf.eth0/1.forwarding", "sys/net/ipv4/conf/eth0.1/forwarding"),
        ("net/ipv4/conf/eth0.1/forwarding", "sys/net/ipv4/conf/eth0.1/forwarding"),
        ("panic", "sys/panic"),
    ],
)
def test_names_of_parameters(key: str, path: str) -> None:
    """Dots and slashes change roles when a slash comes first."""
    assert path_of_sysctl(key) == path


@pytest.mark.parametrize("key", ["", ".", "kernel..x", "kernel/../../etc", "/kernel/x", "kernel.//.x"])
def test_names_that_climb(key: str) -> None:
    """A name with an empty part or a step up is none."""
    with pytest.raises(OptionError, match="no kernel parameter"):
        path_of_sysctl(key)


def test_clean_paths() -> None:
    """Paths of the container are absolute, without what means nothing; steps up are the kernel's to understand."""
    assert clean("a//b/./c/") == "/a/b/c"
    assert clean("../x") == "/../x"


def test_what_is_not_open_is_named(tmp_path: Path) -> None:
    """An operation without the one that it stands on says which is missing; what is no procfs is no handle."""
    with pytest.raises(LookupError, match="root is not open"):
        root_of(Site())
    with pytest.raises(LookupError, match="no procfs is open"):
        procfs_of(Site())
    site = Site(proc=os.open(tmp_path, os.O_PATH | os.O_DIRECTORY))
    try:
        with pytest.raises(OSError, match="no proc"):
            procfs_of(site)
    finally:
        site.close()
