"""Fetches what the report is looked at with: Chromium from the distribution's packages, axe-core from npm.

    python tests/report/fetch_browser.py     prints NAME=PATH lines: KERNELPROOF_BROWSER, KERNELPROOF_AXE

A Chromium that is installed is taken as it is. Else its packages are fetched and checked as those of machines are, and
unpacked into the cache; nothing is installed. It runs with this host's own C library, whose packages they fit.
axe-core is taken only with the digest that stands here.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from kernelproof.vm.apt import Apt
from kernelproof.vm.cache import Cache
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.provision_context import Provisioning
from kernelproof.vm.provision_progress import open_progress
from kernelproof.vm.provision_tools import describe_packages
from kernelproof.vm.provision_unpack import lay_down, read_packages

PACKAGES = ("chromium", "fonts-dejavu-core", "fonts-noto-core")
RECIPE = 1  # raised when what is made of the same packages changes
PROGRAM = "usr/lib/chromium/chromium"
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
AXE = "axe-core@4.14.1"
AXE_SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
_HOST = ("libc6", "libc-bin")  # a C library works only with its own loader
_FONTS = ("usr/share/fonts/", "usr/share/fontconfig/", "etc/fonts/")
_NOTO = "usr/share/fonts/truetype/noto/"


def is_wanted(path: str) -> bool:
    """Whether a file of the packages is of use here: of hundreds of Noto fonts, the plain ones."""
    if path.startswith(_NOTO):
        return Path(path).name.startswith(("NotoSans-", "NotoSerif-", "NotoSansMono-", "NotoSansSymbols"))
    return path.startswith(("usr/lib/", "usr/share/X11/", *_FONTS))


def provide_browser(context: Provisioning) -> Path:
    """The program of a Chromium: an installed one, else from the cache or made from packages.

    Raises:
        ProvisionError: packages could not be had or unpacked.
    """
    installed = next((found for name in NAMES if (found := shutil.which(name))), None)
    if installed is not None:
        return Path(installed)

    def make(apt: Apt) -> str:
        packages = [found for found in apt.resolve(apt.update(context.suites), PACKAGES) if found.name not in _HOST]
        record = {"packages": describe_packages(packages), "recipe": RECIPE}
        return context.build("browser", record, lambda work: unpack(work, apt.fetch(packages)))

    def unpack(work: Path, debs: Sequence[Path]) -> None:
        context.progress.step("unpack browser")
        lay_down(read_packages(debs, is_wanted).members(), work)

    request = {"packages": PACKAGES, "suites": list(context.suites), "recipe": RECIPE}
    return context.provide("browser", request, make).folder / PROGRAM


def provide_axe(context: Provisioning) -> Path:
    """The file `axe.min.js`, from the cache or from npm.

    Raises:
        ProvisionError: npm is not here, or gave something else.
    """
    digest = context.build("axe", {"package": AXE, "sha512": AXE_SHA512}, fetch_axe)
    return context.cache.path("axe", digest) / "axe.min.js"


def fetch_axe(work: Path) -> None:
    """Have npm fetch the package, and take the script out of it if it is the one that is meant.

    Raises:
        ProvisionError: it could not be fetched, or is another.
    """
    npm = shutil.which("npm")
    if npm is None:
        remedy = "install npm, or name an axe.min.js with KERNELPROOF_AXE"
        raise ProvisionError("fetch axe-core", AXE, "npm is not here", remedy)
    with TemporaryDirectory() as folder:
        command = [npm, "pack", "--silent", "--pack-destination", folder, AXE]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=folder
        )
        files = [*Path(folder).glob("*.tgz")]
        if done.returncode or len(files) != 1:
            detail = done.stderr.strip()[-300:] or f"exit status {done.returncode}"
            raise ProvisionError("fetch axe-core", AXE, f"npm: {detail}", "see to npm's settings")
        found = base64.b64encode(hashlib.sha512(files[0].read_bytes()).digest()).decode()
        if found != AXE_SHA512:
            raise ProvisionError("fetch axe-core", AXE, f"sha512 {found}, expected {AXE_SHA512}", "don't use it")
        with tarfile.open(files[0]) as archive:
            for name in ("axe.min.js", "LICENSE"):
                member = archive.extractfile(f"package/{name}")
                if member is None:
                    raise ProvisionError("unpack axe-core", AXE, f"no {name} in it", "name another version")
                (work / name).write_bytes(member.read())


def main() -> int:
    """Print where they are."""
    try:
        with open_progress(sys.stderr) as progress, Provisioning(Cache(), progress) as context:
            browser = os.environ.get("KERNELPROOF_BROWSER") or provide_browser(context)
            axe = os.environ.get("KERNELPROOF_AXE") or provide_axe(context)
    except ProvisionError as error:
        print(f"fetch_browser: {error}", file=sys.stderr)
        return 1
    print(f"KERNELPROOF_BROWSER={browser}\nKERNELPROOF_AXE={axe}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
