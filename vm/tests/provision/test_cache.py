"""An entry of the cache is whole or absent, whatever happened to it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernelproof.vm.cache import MANIFEST, SEEN, Cache, default_cache_root, digest_file, digest_record, read_boot_id
from kernelproof.vm.errors import ProvisionError

DIGEST = "0" * 64


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache."""
    return Cache(tmp_path / "cache", boot_id="this")


def build(cache: Cache, content: bytes = b"content") -> Path:
    """An entry with a file, a file in a folder and a link."""
    with cache.building("kind", DIGEST) as work:
        (work / "file").write_bytes(content)
        (work / "folder").mkdir()
        (work / "folder" / "other").write_bytes(b"other")
        (work / "link").symlink_to("file")
    return cache.path("kind", DIGEST)


def test_every_field_of_a_record_counts() -> None:
    """Whatever changes in a record, its key is another one; order of keys does not matter."""
    record: dict[str, object] = {"a": 1, "b": ["x", "y"], "c": None, "d": "ü"}
    changes: list[dict[str, object]] = [
        {"a": 2},
        {"a": "1"},
        {"b": ["y", "x"]},
        {"b": ["xy"]},
        {"c": False},
        {"d": "u"},
        {"e": None},
    ]
    digests = {digest_record({**record, **change}) for change in changes}
    assert len(digests) == len(changes)
    assert digest_record(record) not in digests
    assert digest_record(dict(reversed(record.items()))) == digest_record(record)
    assert len(digest_record(record)) == 64


def test_record_that_is_not_plain_has_no_key() -> None:
    """What JSON can't say exactly is refused."""
    with pytest.raises(ValueError, match="JSON"):
        digest_record({"a": float("nan")})
    with pytest.raises(TypeError):
        digest_record({"a": {1, 2}})


@pytest.mark.parametrize(
    ("environment", "root"),
    [
        ({"KERNELPROOF_CACHE": "/k", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/k"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/kernelproof"),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/kernelproof"),
    ],
)
def test_default_place(environment: dict[str, str], root: str) -> None:
    """The variable of ours comes first, then the desktop's, then the home folder."""
    assert default_cache_root(environment) == Path(root)


def test_entry_is_found_once_it_is_finished(cache: Cache) -> None:
    """A built entry is there with all that was written, and a half-built one is not."""
    assert cache.find("kind", DIGEST) is None
    with cache.building("kind", DIGEST) as work:
        (work / "file").write_bytes(b"content")
        assert cache.find("kind", DIGEST) is None
    found = cache.find("kind", DIGEST)
    assert found is not None
    assert (found / "file").read_bytes() == b"content"


def test_failure_leaves_nothing(cache: Cache) -> None:
    """A block that fails leaves no entry and no half of one."""

    def fail(work: Path) -> None:
        (work / "file").write_bytes(b"content")
        raise RuntimeError

    with pytest.raises(RuntimeError), cache.building("kind", DIGEST) as work:
        fail(work)
    assert cache.find("kind", DIGEST) is None
    assert os.listdir(cache.folder("kind")) == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest", "no manifest"])
def test_damaged_entry_is_dropped(cache: Cache, damage: str) -> None:
    """A byte flipped, a file cut or gone, a lost manifest: the entry is absent, and can be built again."""
    entry = build(cache)
    path = entry / "folder" / "other"
    match damage:
        case "flip":
            path.write_bytes(b"othes")
        case "truncate":
            os.truncate(path, 3)
        case "remove":
            path.unlink()
        case "manifest":
            (entry / MANIFEST).write_text("{")
        case _:
            (entry / MANIFEST).unlink()
    assert cache.find("kind", DIGEST) is None
    assert not entry.exists()
    assert build(cache) == cache.find("kind", DIGEST)


def test_digests_are_compared_again_after_a_reboot(cache: Cache) -> None:
    """Damage that kept size and times is found when the host has been started anew, as after a power cut."""
    entry = build(cache)
    path = entry / "file"
    before = path.stat()
    path.write_bytes(b"CONTENT")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    boot, *looks = json.loads((entry / SEEN).read_text())
    forged = [[*look[:4], path.stat().st_ctime_ns] if look[0] == "file" else look for look in looks]
    (entry / SEEN).write_text(json.dumps([boot, *forged]))
    assert cache.find("kind", DIGEST) == entry
    assert Cache(cache.root, boot_id="next").find("kind", DIGEST) is None


def test_digests_are_not_compared_while_nothing_changed(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second look reads no content."""
    entry = build(cache)

    def refuse(path: Path) -> str:
        raise AssertionError(f"read {path}")

    monkeypatch.setattr("kernelproof.vm.cache.digest_file", refuse)
    assert cache.find("kind", DIGEST) == entry


def test_entry_sealed_without_digests_is_held_to_its_sizes(cache: Cache) -> None:
    """Large files may be sealed by size alone: a cut one is still noticed."""
    with cache.building("kind", DIGEST, digests=False) as work:
        (work / "file").write_bytes(b"content")
    entry = cache.path("kind", DIGEST)
    (entry / "file").write_bytes(b"CONTENT")
    assert cache.find("kind", DIGEST) == entry
    os.truncate(entry / "file", 3)
    assert cache.find("kind", DIGEST) is None


def test_left_overs_of_a_killed_run_are_swept(cache: Cache) -> None:
    """A half-built folder whose builder is gone vanishes at the next build; one whose builder lives stays."""
    left = cache.folder("kind") / f".{DIGEST[:16]}.dead"
    left.mkdir()
    (left / "file").touch()
    with cache.building("kind", "1" * 64) as other:
        assert not left.exists()
        build(cache)
        assert other.is_dir()


def test_two_builders_at_once(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder that sweeps just when another has made its folder does not take that for left behind."""
    make: Callable[..., str] = tempfile.mkdtemp
    others: list[threading.Thread] = []

    def sweep() -> None:
        with cache.building("kind", "2" * 64):
            pass

    def make_while_another_sweeps(**arguments: Any) -> str:
        monkeypatch.setattr(tempfile, "mkdtemp", make)
        made = make(**arguments)
        others.append(threading.Thread(target=sweep))
        others[0].start()
        others[0].join(0.3)  # it waits for us; when it does not, it is done long before
        return made

    monkeypatch.setattr(tempfile, "mkdtemp", make_while_another_sweeps)
    with cache.building("kind", DIGEST) as work:
        assert work.is_dir()
    others[0].join()
    assert cache.find("kind", DIGEST) is not None
    assert cache.find("kind", "2" * 64) is not None


def test_choices_are_remembered(cache: Cache) -> None:
    """A request leads to the entry that was noted last, until choices are forgotten."""
    assert cache.recall("kind", "r") is None
    cache.remember("kind", "r", DIGEST)
    cache.remember("other", "r", "1" * 64)
    assert cache.recall("kind", "r") == DIGEST
    cache.forget_choices()
    assert cache.recall("kind", "r") is None


@pytest.mark.parametrize("text", ["", "../../etc", "0" * 63, "g" * 64])
def test_choice_that_is_no_digest_is_none(cache: Cache, text: str) -> None:
    """A damaged note is as good as no note, and never a path."""
    cache.remember("kind", "r", DIGEST)
    (cache.folder("choices") / "kind-r").write_text(text)
    assert cache.recall("kind", "r") is None


def test_lock_is_exclusive_and_the_one_who_waits_is_told(cache: Cache) -> None:
    """Two who want the same lock come one after the other; the second hears that it waits."""
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        with cache.locked("kind", "name", waiting.set):
            order.append("second")

    with cache.locked("kind", "name"):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(60)
        with cache.locked("kind", "other"):  # another lock is free
            order.append("first")
    thread.join()
    assert order == ["first", "second"]


def run_in_limits(code: str, folder: Path, before: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a Python of its own after `before`."""
    words = [
        sys.executable,
        "-c",
        f"{before}\nfrom pathlib import Path\nfrom kernelproof.vm.cache import Cache\n{code}",
    ]
    return subprocess.run([*words, str(folder)], capture_output=True, text=True, check=False)


def test_full_disc_is_told_with_a_remedy(tmp_path: Path) -> None:
    """A write that the file system refuses is a ProvisionError that names the file's place; nothing is left."""
    code = (
        "import sys\ncache = Cache(Path(sys.argv[1]))\n"
        "with cache.building('kind', '0' * 64) as work:\n    (work / 'file').write_bytes(bytes(1 << 20))\n"
    )
    limit = "import resource, signal\nresource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))"
    done = run_in_limits(code, tmp_path / "cache", limit)
    assert done.returncode == 1
    assert "ProvisionError: write cache entry: " in done.stderr
    assert os.strerror(errno.EFBIG) in done.stderr
    assert "remedy: free space, or set KERNELPROOF_CACHE" in done.stderr
    assert os.listdir(tmp_path / "cache/v1/kind") == []


def test_cache_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    """A file where the folder should be, which no privilege overcomes, is an error with a remedy."""
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file" / "cache")
    with pytest.raises(ProvisionError, match=r"make cache folder: .*Not a directory") as caught:
        cache.folder("kind")
    assert "KERNELPROOF_CACHE" in caught.value.remedy
    assert cache.find("kind", DIGEST) is None
    assert cache.recall("kind", "r") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_cache_still_gives_what_is_in_it(cache: Cache) -> None:
    """A finished entry is found in a folder that can't be written to, and a new one is refused with a remedy."""
    entry = build(cache)
    (entry / SEEN).unlink()
    for folder in (entry, entry.parent):
        folder.chmod(0o500)
    try:
        assert cache.find("kind", DIGEST) == entry
        with pytest.raises(ProvisionError, match="not writable"):
            cache.folder("kind")
    finally:
        for folder in (entry.parent, entry):
            folder.chmod(0o700)


def test_errors_that_storage_never_says_pass_through(cache: Cache) -> None:
    """A broken connection inside a block that builds is not told as a full disc."""
    with pytest.raises(ConnectionResetError), cache.building("kind", DIGEST):
        raise ConnectionResetError(errno.ECONNRESET, "reset")


def test_digest_of_a_file(tmp_path: Path) -> None:
    """SHA-256 of the content."""
    (tmp_path / "f").write_bytes(b"abc")
    assert digest_file(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_boot_id_of_a_machine_without_one(tmp_path: Path) -> None:
    """Where the kernel gives none it is empty."""
    assert read_boot_id(tmp_path / "none") == ""
