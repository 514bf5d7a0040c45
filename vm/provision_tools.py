"""Programs of the guest's distribution that run on the host: from its packages, through its own loader.

So nothing but apt and dpkg-deb has to be installed here, and bytecode is made by the interpreter that will read it.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

from kernelproof.vm.apt import Apt
from kernelproof.vm.apt_output import Package
from kernelproof.vm.cpio import make_file
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.provision_context import Provisioning
from kernelproof.vm.provision_unpack import WORKERS, Tree, lay_down, read_packages

PACKAGES = ("kmod", "lz4", "python3", "zstd")
RECIPE = 1  # raised when what is made of the same packages changes
LIBRARIES = "usr/lib/x86_64-linux-gnu"
LOADER = f"{LIBRARIES}/ld-linux-x86-64.so.2"
_FILES = {"depmod": "kmod"}  # goes by the name it is called by
_WANTED = ("usr/bin/", "usr/lib/", "usr/lib64/", "usr/sbin/")


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs, unpacked.

    Args:
        folder: What would be `/`.
        digest: Of the packages they came from.
    """

    folder: Path
    digest: str

    def run(
        self,
        name: str,
        words: Sequence[str] = (),
        *,
        data: bytes = b"",
        step: str,
        subject: str,
        statuses: tuple[int, ...] = (0,),
    ) -> bytes:
        """Run the program NAME with `data` as its standard input, and return what it wrote.

        Args:
            name: Of a program of `PACKAGES`.
            words: Its arguments.
            data: Its standard input.
            step: What is being done, for the error.
            subject: What it is done to, for the error.
            statuses: The exit statuses that mean success.

        Raises:
            ProvisionError: it can't be started or failed.
        """
        try:
            done = self.invoke(name, words, data)
        except OSError as error:
            raise ProvisionError(step, subject, f"{name}: {error.strerror}", self.remedy(name, error)) from error
        if done.returncode not in statuses:
            detail = done.stderr.decode(errors="replace").strip()[-500:] or f"exit status {done.returncode}"
            raise ProvisionError(step, subject, f"{name}: {detail}", self.remedy(name, None))
        return done.stdout

    def invoke(self, name: str, words: Sequence[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
        """Start the program NAME and wait for it.

        Raises:
            OSError: it can't be started.
        """
        loader = [str(self.folder / LOADER), "--library-path", str(self.folder / LIBRARIES), "--argv0", name]
        environment = {
            "PATH": os.defpath,
            "LC_ALL": "C.UTF-8",
            "PYTHONHOME": str(self.folder / "usr"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [*loader, str(self.folder / "usr/bin" / _FILES.get(name, name)), *words]
        return subprocess.run(command, input=data, capture_output=True, check=False, env=environment, cwd="/")

    def remedy(self, name: str, error: OSError | None) -> str:
        """What helps where NAME could not be started, or failed if there is no error."""
        if error is None:
            return f"remove {self.folder}: it is made again"
        if error.errno == errno.EACCES:
            return "set KERNELPROOF_CACHE to a folder on a file system that is not mounted noexec"
        return "use an x86-64 host"

    @property
    def python(self) -> str:
        """The version of the Python in it: `3.13`."""
        return os.readlink(self.folder / "usr/bin/python3").removeprefix("python")


@dataclass(frozen=True, slots=True)
class HostTools(Tools):
    """Programs of this machine, where it is not one of the distribution's. It has no guest's Python."""

    def invoke(self, name: str, words: Sequence[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
        """Start the program of that name; errors as of `Tools.invoke`."""
        program = which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
        if program is None:
            raise FileNotFoundError(errno.ENOENT, "not found", name)
        return subprocess.run([program, *words], input=data, capture_output=True, check=False)

    def remedy(self, name: str, error: OSError | None) -> str:
        """What to install."""
        return f"install a newer {name}" if error is None else f"install the program {name}"

    @property
    def python(self) -> str:
        """Empty: the guest's Python is not here."""
        return ""


def find_host_tools() -> Tools:
    """The programs of this machine."""
    return HostTools(Path("/"), "host")


def plan_tools_request(suites: Sequence[str]) -> dict[str, object]:
    """What the tools are asked for by."""
    return {"packages": PACKAGES, "suites": list(suites), "recipe": RECIPE}


def provide_tools(context: Provisioning, suites: Sequence[str]) -> Tools:
    """The tools, from the cache or made from packages of `suites`.

    Raises:
        ProvisionError: packages could not be had or unpacked.
    """

    def make(apt: Apt) -> str:
        packages = apt.resolve(apt.update(suites), PACKAGES)
        record = {"packages": describe_packages(packages), "recipe": RECIPE}
        return context.build("tools", record, lambda work: unpack(work, apt.fetch(packages)))

    def unpack(work: Path, debs: Sequence[Path]) -> None:
        context.progress.step("unpack tools")
        lay_down(read_packages(debs, lambda path: path.startswith(_WANTED)).members(), work)

    entry = context.provide("tools", plan_tools_request(suites), make)
    return Tools(entry.folder, entry.digest)


def describe_packages(packages: Sequence[Package]) -> list[list[str]]:
    """What of packages goes into a key: name, version and digest, whatever mirror they came from."""
    return sorted([package.name, package.version, package.sha256] for package in packages)


def compile_python(tree: Tree, tools: Tools, place: Path, below: str) -> None:
    """Add bytecode for every Python file of `tree` below the path `below`, made by the guest's own interpreter.

    It is never checked against its source (unchecked-hash), as times in an archive mean nothing. What lies in a
    folder made at `place` meanwhile is removed again.

    Raises:
        ProvisionError: the interpreter failed.
        OSError: files can't be written at `place`.
    """
    sources = [member for member in tree.members() if member.path.startswith(below) and member.path.endswith(".py")]
    with TemporaryDirectory(dir=place) as name:
        work = Path(name)
        lay_down(sources, work)
        names = [str(work / member.path) for member in sources]
        with ThreadPoolExecutor(WORKERS) as pool:
            parts = [names[start::WORKERS] for start in range(WORKERS)]
            list(pool.map(partial(_compile, tools, work), parts))
        for path in sorted(work.rglob("*.pyc")):
            tree.add(make_file(str(path.relative_to(work)), path.read_bytes()))


def _compile(tools: Tools, work: Path, names: Sequence[str]) -> None:
    words = ["-S", "-m", "compileall", "-q", "-j1", "--invalidation-mode", "unchecked-hash", "-s", str(work), "-p", "/"]
    # Status 1: a file is not meant to be compiled (templates, files of other versions); it stays source.
    data = "\n".join(names).encode()
    tools.run("python3", [*words, "-i", "-"], data=data, step="compile", subject=str(work), statuses=(0, 1))
