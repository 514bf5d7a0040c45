"""How the root is opened where openat2(2) is missing or forbidden."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kernelproof.impl.libcontainer.operations import Site
from kernelproof.impl.libcontainer.rootfs import opening
from kernelproof.impl.libcontainer.rootfs.opening import OpenRoot


@pytest.mark.parametrize("number", [0, errno.ENOSYS, errno.EPERM], ids=["openat2", "no such call", "filter"])
def test_root_is_opened_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """With the call or in steps: the directory that was named, also by a relative path; links and files are refused."""
    (tmp_path / "a/root").mkdir(parents=True)
    (tmp_path / "a/file").touch()
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "a/end").symlink_to("root")

    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    if number:
        monkeypatch.setattr(opening, "openat2", refuse)
    monkeypatch.chdir(tmp_path / "a")
    before = len(os.listdir("/proc/self/fd"))
    for path in (f"{tmp_path}/a/root", f"{tmp_path}//a/./root/", "root", "../a/root"):
        site = Site()
        OpenRoot(path).do(site)
        assert os.path.samestat(os.fstat(site.descriptors["root"]), os.stat("root"))
        assert not os.get_inheritable(site.descriptors["root"])
        site.close()
    refused = {
        f"{tmp_path}/link/root": errno.ELOOP, f"{tmp_path}/a/end": errno.ELOOP, "file": errno.ENOTDIR,
        "file/x": errno.ENOTDIR, "missing/x": errno.ENOENT,
    }  # fmt: skip
    for path, expected in refused.items():
        with pytest.raises(OSError, match=r".") as error:
            OpenRoot(path).do(Site())
        assert (error.value.errno, error.value.filename) == (expected, path)
        assert error.value.__notes__[-1] == vars(opening)["_REMEDIES"][expected]
    assert len(os.listdir("/proc/self/fd")) == before
