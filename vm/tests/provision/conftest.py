"""A signed archive in a folder, and apt that uses it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.vm.apt import Apt, AptSettings
from kernelproof.vm.apt_sources import Mirrors
from kernelproof.vm.cache import Cache
from kernelproof.vm.provision_context import Provisioning
from kernelproof.vm.provision_progress import SilentProgress
from kernelproof.vm.tests.provision.archive import Archive, Signer, fetch_signer_program

MakeApt = Callable[..., Apt]


@pytest.fixture(scope="session")
def signer_program() -> Path:
    """What signs indexes; fetched once by provisioning itself, as any package of the guest."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on this host")
    with Provisioning(Cache(), SilentProgress()) as context:
        return fetch_signer_program(context)


@pytest.fixture(scope="session")
def signer(signer_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Signer:
    """The key of the archive."""
    return Signer(signer_program, tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="session")
def stranger(signer_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Signer:
    """A key that is in nobody's keyring."""
    return Signer(signer_program, tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def archive(tmp_path: Path, signer: Signer) -> Archive:
    """An empty archive."""
    return Archive(tmp_path / "mirror", signer)


@pytest.fixture
def progress() -> SilentProgress:
    """Keeps what was noted."""
    return SilentProgress()


@pytest.fixture
def make_apt(tmp_path: Path, archive: Archive, progress: SilentProgress) -> MakeApt:
    """Makes an apt whose only mirror is the archive, unless told of others."""

    def make(
        *uris: str, options: tuple[tuple[str, str], ...] = (), accepts_expired: bool = False, folder: str = "apt"
    ) -> Apt:
        mirrors = Mirrors(uris or (archive.uri,), uris or (archive.uri,))
        settings = AptSettings(mirrors, archive.signer.keyring, options, accepts_expired)
        (tmp_path / folder).mkdir(exist_ok=True)
        return Apt(tmp_path / folder, settings, progress)

    return make
