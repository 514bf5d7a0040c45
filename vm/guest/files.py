"""Files between host and guest: unpack what the host pushes, read what it pulls.

Content travels in raw frames; an empty one ends a file.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator, Mapping
from io import BufferedReader, RawIOBase
from pathlib import Path

from kernelproof.vm.guest import bundle
from kernelproof.vm.guest.port import Port

_CHUNK = 1024 * 1024


class _Pushed(RawIOBase):
    """The frames of one push as a readable file."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._rest = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what RawIOBase really passes
        if not self._rest and not self._ended:
            self._rest = memoryview(self._port.receive_bytes())
            self._ended = not self._rest
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def drain(self) -> None:
        while not self._ended:
            self._ended = not self._port.receive_bytes()


def store_pushed(port: Port, message: Mapping[str, object]) -> None:
    """Answer `push`: write one file, or unpack an archive (tar, or a bundle) below a directory; parents are made.

    Raises:
        OSError: as mkdir(2), open(2) and write(2) refuse.
        tarfile.TarError, struct.error: not an archive.
    """
    pushed = _Pushed(port)
    path = Path(str(message["path"]))
    try:
        if message["form"] == "tar":
            path.mkdir(parents=True, exist_ok=True)
            _unpack(BufferedReader(pushed, _CHUNK), path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                while chunk := pushed.read(_CHUNK):
                    file.write(chunk)
            path.chmod(int(str(message["mode"])))
    finally:
        pushed.drain()
    port.send({"kind": "pushed"})


def _unpack(source: BufferedReader, folder: Path) -> None:
    if source.peek(len(bundle.MAGIC)).startswith(bundle.MAGIC):
        bundle.unpack(source.read(), str(folder))
        return
    with tarfile.open(fileobj=source, mode="r|") as archive:
        archive.extractall(folder, filter="fully_trusted")  # the guest trusts its host


def _regular_files(root: Path) -> Iterator[tuple[str, Path]]:
    if not stat.S_ISDIR(root.lstat().st_mode):
        yield "", root
        return
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield str(path.relative_to(root)), path


def send_pulled(port: Port, message: Mapping[str, object]) -> None:
    """Answer `pull`: a regular file, or all regular files below a directory; anything else is left out.

    Raises:
        OSError: as open(2) and read(2) refuse; ELOOP for a symbolic link.
    """
    count = 0
    for name, path in _regular_files(Path(str(message["path"]))):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            port.send({"kind": "file", "path": name})
            while chunk := os.read(descriptor, _CHUNK):
                port.send_bytes(chunk)
            port.send_bytes(b"")
        finally:
            os.close(descriptor)
        count += 1
    port.send({"kind": "pulled", "files": count})
