"""A folder of finished things, each under the digest of the record that made it.

An entry is either whole or absent: it is built in a folder of its own under a lock and renamed into place.
Not a place for secrets, nor for anything that can't be made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kernelproof.vm.errors import ProvisionError

FORMAT = 1  # raised when entries of an older kernelproof can't be used


def digest_record(record: Mapping[str, object]) -> str:
    """The key of whatever `record` describes: SHA-256 over its canonical JSON, 64 hexadecimal digits."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 over the content of `path`, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def default_cache_root(environment: Mapping[str, str] = os.environ) -> Path:
    """`$KERNELPROOF_CACHE`, else `$XDG_CACHE_HOME/kernelproof`, else `~/.cache/kernelproof`."""
    if own := environment.get("KERNELPROOF_CACHE"):
        return Path(own).absolute()
    base = environment.get("XDG_CACHE_HOME") or os.path.join(environment.get("HOME", "/root"), ".cache")
    return Path(base) / "kernelproof"


class Cache:
    """Entries by kind and digest below one root, safe between processes.

    Args:
        root: An absolute folder; made with mode 0700 when first written to.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = default_cache_root() if root is None else root

    def folder(self, kind: str) -> Path:
        """The folder of all entries of a kind, made if absent.

        Raises:
            ProvisionError: the folder can't be made or written to (read-only, no space, no permission).
        """
        folder = self.root / f"v{FORMAT}" / kind
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError(13, "not writable", str(folder))
        except OSError as error:
            raise ProvisionError(
                "make cache folder",
                str(folder),
                error.strerror or str(error),
                "free space or set KERNELPROOF_CACHE to a folder that you can write",
            ) from error
        return folder

    def find(self, kind: str, digest: str) -> Path | None:
        """The finished entry, or None."""
        path = self.root / f"v{FORMAT}" / kind / digest
        return path if path.is_dir() else None

    @contextmanager
    def locked(self, kind: str, name: str) -> Iterator[None]:
        """Hold the exclusive lock `name` of a kind (flock: it ends with the process, however that ends)."""
        descriptor = os.open(self.folder(kind) / f".{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def building(self, kind: str, digest: str) -> Iterator[Path]:
        """A new empty folder that becomes the entry when the block ends well, and vanishes when it does not.

        The caller holds `locked(kind, digest)` and has looked with `find` under it.
        """
        folder = self.folder(kind)
        work = Path(tempfile.mkdtemp(prefix=f".{digest[:16]}.", dir=folder))
        try:
            yield work
            work.rename(folder / digest)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise

    def drop(self, kind: str, digest: str) -> None:
        """Forget an entry (corrupt, or no longer wanted)."""
        shutil.rmtree(self.root / f"v{FORMAT}" / kind / digest, ignore_errors=True)
