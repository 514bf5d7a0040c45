"""Packs a tree of the host's files that a machine is given."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path


def pack_tree(tree: Path) -> bytes:
    """A tar archive of what is below a folder, owned by root, symbolic links as they are.

    Raises:
        OSError: a file can't be read.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in sorted(tree.iterdir()):
            archive.add(path, arcname=path.name, filter=_owned_by_root)
    return packed.getvalue()


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member
