"""A folder of finished things, each under the digest of the record that made it.

An entry is either whole or absent: it is built in a folder of its own under a lock, sealed with the digests of its
files, and renamed into place. An entry whose files are not what was sealed is dropped when it is looked for, so that
it is made again. Not a place for secrets, nor for anything that can't be made again.

    ROOT/v1/KIND/DIGEST/...          the files of an entry
    ROOT/v1/KIND/DIGEST/.manifest    their sizes and digests
    ROOT/v1/KIND/DIGEST/.seen        what their inodes looked like when the digests were last compared; its time is
                                     that of the last use, to an hour
    ROOT/v1/choices/KIND-DIGEST      which entry a request led to
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from kernelproof.vm.errors import ProvisionError

FORMAT = 1  # raised when entries of an older kernelproof can't be used
MANIFEST = ".manifest"
SEEN = ".seen"
USE_SECONDS = 3600.0  # the use of an entry is noted so often
_REMEDY = "free space, or set KERNELPROOF_CACHE to a folder that you can write to"


def digest_record(record: Mapping[str, object]) -> str:
    """The key of whatever `record` describes: SHA-256 over its canonical JSON, 64 hexadecimal digits."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 over the content of `path`, 64 hexadecimal digits.

    Raises:
        OSError: as for opening and reading `path`.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def default_cache_root(environment: Mapping[str, str] = os.environ) -> Path:
    """`$KERNELPROOF_CACHE`, else `$XDG_CACHE_HOME/kernelproof`, else `~/.cache/kernelproof`."""
    if own := environment.get("KERNELPROOF_CACHE"):
        return Path(own).absolute()
    base = environment.get("XDG_CACHE_HOME") or os.path.join(environment.get("HOME", "/root"), ".cache")
    return Path(base) / "kernelproof"


def read_boot_id(path: Path = Path("/proc/sys/kernel/random/boot_id")) -> str:
    """The identity of this boot of the host, or an empty text where the kernel gives none."""
    try:
        return path.read_text("ascii").strip()
    except OSError:
        return ""


class Cache:
    """Entries by kind and digest below one root, safe between processes.

    Args:
        root: An absolute folder; made with mode 0700 when first written to.
        boot_id: Digests are compared once in each boot of the host, and whenever an inode has changed: what
            a power cut left behind has the right size and times. Pass a text to say which boot this is.
    """

    def __init__(self, root: Path | None = None, *, boot_id: str | None = None) -> None:
        self.root = default_cache_root() if root is None else root
        self._boot_id = read_boot_id() if boot_id is None else boot_id

    def path(self, kind: str, digest: str) -> Path:
        """Where the entry is or would be."""
        return self.root / f"v{FORMAT}" / kind / digest

    def folder(self, kind: str) -> Path:
        """The folder of all entries of a kind, made if absent.

        Raises:
            ProvisionError: the folder can't be made or written to (read-only, no space, no permission).
        """
        folder = self.root / f"v{FORMAT}" / kind
        with reported_as_provision_error("make cache folder", folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError(13, "not writable", str(folder))
        return folder

    def find(self, kind: str, digest: str) -> Path | None:
        """The finished entry, or None if there is none or it is damaged (it is dropped then).

        Raises:
            ProvisionError: a damaged entry can't be read, or can't be removed from a read-only cache.
        """
        path = self.path(kind, digest)
        if not path.is_dir():
            return None
        with reported_as_provision_error("check cache entry", path):
            if self._is_whole(path):
                _note_use(path / SEEN)
                return path
        self.drop(kind, digest)
        if path.exists():
            raise ProvisionError("drop damaged cache entry", str(path), "it can't be removed", _REMEDY)
        return None

    @contextmanager
    def locked(self, kind: str, name: str, tell_waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the exclusive lock `name` of a kind (flock: it ends with the process, however that ends).

        Args:
            kind: The kind of entry.
            name: Of the lock.
            tell_waiting: Is called if someone else holds it, before waiting.

        Raises:
            ProvisionError: the lock file can't be made.
        """
        path = self.folder(kind) / f".{name}.lock"
        with reported_as_provision_error("lock cache", path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if tell_waiting is not None:
                    tell_waiting()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def building(self, kind: str, digest: str, *, digests: bool = True) -> Iterator[Path]:
        """A new empty folder that becomes the entry when the block ends well, and vanishes when it does not.

        The caller holds `locked(kind, digest)` and has looked with `find` under it.

        Args:
            kind: The kind of entry.
            digest: Its name.
            digests: False to seal sizes only, for large files that are checked in another way.

        Raises:
            ProvisionError: the folder can't be written to: ENOSPC, EDQUOT, EROFS, EACCES.
        """
        folder = self.folder(kind)
        with _storage_errors_reported("write cache entry", folder / digest):
            # Until its own lock says that the builder lives, another's sweep would take the folder for left behind.
            with _flocked(folder):
                self._sweep(folder)
                work = Path(tempfile.mkdtemp(prefix=f".{digest[:16]}.", dir=folder))
                lock = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(lock, fcntl.LOCK_SH)
            try:
                yield work
                self._seal(work, digests=digests)
                work.rename(folder / digest)
            except BaseException:
                shutil.rmtree(work, ignore_errors=True)
                raise
            finally:
                os.close(lock)

    def drop(self, kind: str, digest: str) -> None:
        """Forget an entry (corrupt, or no longer wanted)."""
        shutil.rmtree(self.path(kind, digest), ignore_errors=True)

    def recall(self, kind: str, request: str) -> str | None:
        """The digest of the entry that `request` (a digest too) last led to, or None."""
        try:
            text = (self.root / f"v{FORMAT}" / "choices" / f"{kind}-{request}").read_text("ascii").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return text if len(text) == 64 and set(text) <= set("0123456789abcdef") else None

    def remember(self, kind: str, request: str, digest: str) -> None:
        """Let `recall(kind, request)` give `digest` from now on.

        Raises:
            ProvisionError: the note can't be written.
        """
        folder = self.folder("choices")
        path = folder / f"{kind}-{request}"
        with reported_as_provision_error("write cache note", path):
            descriptor, name = tempfile.mkstemp(prefix=".", dir=folder)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(digest + "\n")
            os.rename(name, path)

    def forget_choices(self) -> None:
        """Let every request be answered anew: by the newest packages, of which those already built are not built again.

        Raises:
            ProvisionError: the cache can't be written to.
        """
        folder = self.folder("choices")
        with reported_as_provision_error("forget choices", folder):
            shutil.rmtree(folder)

    def _sweep(self, folder: Path) -> None:
        # Half-built folders whose builder is gone: nobody holds their lock.
        for left in folder.glob(".*.*"):
            if left.is_dir() and not left.is_symlink():
                with suppress(OSError):
                    descriptor = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        shutil.rmtree(left, ignore_errors=True)
                    finally:
                        os.close(descriptor)

    def _seal(self, work: Path, *, digests: bool) -> None:
        manifest = {
            str(path.relative_to(work)): [path.stat().st_size, digest_file(path) if digests else None]
            for path in _files(work)
        }
        (work / MANIFEST).write_text(json.dumps(manifest, sort_keys=True), "utf-8")
        self._note_seen(work, manifest)

    def _is_whole(self, entry: Path) -> bool:
        try:
            manifest = json.loads((entry / MANIFEST).read_text("utf-8"))
            looks = self._look(entry, manifest)
        except (FileNotFoundError, ValueError):
            return False
        try:
            seen = json.loads((entry / SEEN).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            seen = None
        if seen == looks:
            return True
        for name, (size, digest) in manifest.items():
            path = entry / name
            if path.stat().st_size != size or (digest is not None and digest_file(path) != digest):
                return False
        with suppress(OSError):  # a cache of someone else's, read-only: compare again next time
            self._note_seen(entry, manifest)
        return True

    def _note_seen(self, entry: Path, manifest: Mapping[str, object]) -> None:
        (entry / SEEN).write_text(json.dumps(self._look(entry, manifest)), "utf-8")

    def _look(self, entry: Path, manifest: Mapping[str, object]) -> list[object]:
        looks: list[object] = [self._boot_id]
        for name in sorted(manifest):
            status = (entry / name).lstat()
            looks.append([name, status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns])
        return looks


def _files(folder: Path) -> Iterator[Path]:
    # Regular files below `folder`, seals left out, links not followed.
    for directory, _, names in os.walk(folder):
        for name in names:
            path = Path(directory, name)
            if not path.is_symlink() and name not in (MANIFEST, SEEN):
                yield path


@contextmanager
def reported_as_provision_error(step: str, subject: Path) -> Iterator[None]:
    """Turn what the file system refuses inside the block into a `ProvisionError` with a remedy.

    Raises:
        ProvisionError: for every OSError.
    """
    try:
        yield
    except OSError as error:
        place = error.filename if isinstance(error.filename, str) else str(subject)
        raise ProvisionError(step, place, error.strerror or str(error), _REMEDY) from error


@contextmanager
def _flocked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _note_use(seen: Path) -> None:
    with suppress(OSError):  # a cache of someone else's, read-only
        if time.time() - seen.stat().st_mtime > USE_SECONDS:
            os.utime(seen)


_STORAGE_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO)


@contextmanager
def _storage_errors_reported(step: str, subject: Path) -> Iterator[None]:
    # Like the above for a block that does more than write files: what storage never says passes through.
    try:
        yield
    except OSError as error:
        if error.errno not in _STORAGE_ERRNOS:
            raise
        place = error.filename if isinstance(error.filename, str) else str(subject)
        raise ProvisionError(step, place, error.strerror or str(error), _REMEDY) from error
