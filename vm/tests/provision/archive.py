"""A small Debian archive in a folder, signed with a key that is thrown away."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from kernelproof.vm.apt import Apt
from kernelproof.vm.provision_context import Provisioning
from kernelproof.vm.provision_tools import describe_packages
from kernelproof.vm.provision_unpack import lay_down, read_packages


class Signer:
    """A throw-away key, by a program that speaks the stateless OpenPGP interface.

    Args:
        program: `gosop` or another one of that interface.
        folder: Where its keys are kept.
    """

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._key = self._run(["generate-key", "nobody <nobody@kernelproof.invalid>"], b"")
        self._secret = folder / "secret.asc"
        self._secret.write_bytes(self._key)
        self.keyring = folder / "keyring.pgp"
        self.keyring.write_bytes(self._run(["extract-cert", "--no-armor"], self._key))

    def sign(self, text: str) -> bytes:
        """`text` with a signature around it."""
        return self._run(["inline-sign", "--as=clearsigned", str(self._secret)], text.encode())

    def _run(self, words: Sequence[str], data: bytes) -> bytes:
        return subprocess.run([self._program, *words], input=data, capture_output=True, check=True).stdout


def fetch_signer_program(context: Provisioning) -> Path:
    """The program `gosop`: this machine's, or one unpacked into the cache by the road that is tested here."""
    if found := shutil.which("gosop"):
        return Path(found)

    def make(apt: Apt) -> str:
        packages = apt.locate(apt.update(context.suites), ["gosop"])
        record = {"packages": describe_packages(packages)}
        return context.build("test-tools", record, lambda work: unpack(work, apt.fetch(packages)))

    def unpack(work: Path, debs: Sequence[Path]) -> None:
        lay_down(read_packages(debs, lambda path: path == "usr/bin/gosop").members(), work)

    return context.provide("test-tools", {"packages": "gosop"}, make).folder / "usr/bin/gosop"


class Archive:
    """Suites below one folder, as a mirror has them.

    Args:
        root: The folder.
        signer: Signs its indexes.
    """

    def __init__(self, root: Path, signer: Signer) -> None:
        self.root = root
        self.signer = signer
        self._paragraphs: dict[str, list[str]] = {}

    @property
    def uri(self) -> str:
        """Its address."""
        return f"file:{self.root}"

    def add(
        self, suite: str, name: str, version: str = "1", *, depends: str = "", files: Mapping[str, bytes] | None = None
    ) -> Path:
        """Build a package with `files` and put it into `suite`; `publish` shows it. Returns its file."""
        tree = self.root / "build" / name
        shutil.rmtree(tree, ignore_errors=True)
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN").chmod(0o755)  # what dpkg-deb wants, whatever the umask is
        for path, data in (files or {f"usr/share/{name}/data": name.encode()}).items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(data)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n"
        control += "Maintainer: Nobody <nobody@kernelproof.invalid>\n"
        control += (f"Depends: {depends}\n" if depends else "") + "Description: made for a test\n"
        (tree / "DEBIAN" / "control").write_text(control)
        deb = self.root / "pool" / f"{name}_{version}_amd64.deb"
        deb.parent.mkdir(exist_ok=True)
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "--build", "-Znone", tree, deb], check=True, stdout=subprocess.DEVNULL
        )
        data = deb.read_bytes()
        paragraph = f"{control}Filename: pool/{deb.name}\nSize: {len(data)}\nSHA256: {sha256(data).hexdigest()}\n"
        self._paragraphs.setdefault(suite, []).append(paragraph)
        return deb

    def publish(
        self, suite: str, *, valid: timedelta | None = None, signed: bool = True, signer: Signer | None = None
    ) -> Path:
        """Write the indexes of `suite`, and return its `InRelease` (its `Release` if not signed)."""
        folder = self.root / "dists" / suite
        index = folder / "main" / "binary-amd64" / "Packages.gz"
        index.parent.mkdir(parents=True, exist_ok=True)
        listed = "\n".join(self._paragraphs.get(suite, [])).encode()
        index.write_bytes(gzip.compress(listed, mtime=0))
        now = datetime.now(UTC)
        lines = [f"Origin: Test\nSuite: {suite}\nCodename: {suite}\nDate: {format_date(now - timedelta(days=9))}"]
        if valid is not None:
            lines.append(f"Valid-Until: {format_date(now + valid)}")
        lines += ["Architectures: amd64", "Components: main", "SHA256:"]
        for name, data in (("Packages", listed), ("Packages.gz", index.read_bytes())):  # only one lies there
            lines.append(f" {sha256(data).hexdigest()} {len(data)} main/binary-amd64/{name}")
        release = folder / ("InRelease" if signed else "Release")
        text = "\n".join([*lines, ""])
        release.write_bytes((signer or self.signer).sign(text) if signed else text.encode())
        return release


def format_date(when: datetime) -> str:
    """As Release files have it."""
    return f"{when:%a, %d %b %Y %H:%M:%S} UTC"
