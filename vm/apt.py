"""Runs apt with folders of its own: nothing of the machine is changed, and no root is needed.

What the machine is configured for is taken over as data: where the Debian archive is, proxies, passwords for mirrors.
What it is configured to *do* (hooks, pins, unsigned sources, relaxed checks) is not: signatures and digests are
demanded on each command line. Packages are kept under their SHA-256, downloads go on where they broke off.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kernelproof.vm.apt_output import Package, Trouble, classify, parse_expiry, parse_percent, parse_problem, parse_uris
from kernelproof.vm.apt_sources import Mirrors, parse_paragraphs
from kernelproof.vm.cache import digest_file, reported_as_provision_error
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.provision_types import Progress

HELPER = "/usr/lib/apt/apt-helper"
ARCHITECTURE = "amd64"
DEMANDED = (
    ("Acquire::AllowInsecureRepositories", "false"),
    ("Acquire::AllowWeakRepositories", "false"),
    ("Acquire::AllowDowngradeToInsecureRepositories", "false"),
    ("APT::Get::AllowUnauthenticated", "false"),
    ("Acquire::ForceHash", "SHA256"),
)
_PASSED_ON = (
    "PATH",
    "HOME",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)


@dataclass(frozen=True, slots=True)
class AptSettings:
    """What is taken over from the machine.

    Args:
        mirrors: Where the distribution's archive may be.
        keyring: The keys that must have signed it.
        options: apt options, as key and value.
        accepts_expired: Whether an index past its `Valid-Until` is taken all the same.
        components: Of the archive.
    """

    mirrors: Mirrors
    keyring: Path
    options: tuple[tuple[str, str], ...] = ()
    accepts_expired: bool = False
    components: tuple[str, ...] = ("main",)


class Apt:
    """apt with its state, lists and packages below one folder. Not for two processes at once: hold a lock.

    Args:
        folder: Where all of it is kept.
        settings: What holds on this machine.
        progress: Told of downloads, and of suites that are left out.
    """

    def __init__(self, folder: Path, settings: AptSettings, progress: Progress) -> None:
        self._folder = folder
        self._settings = settings
        self._progress = progress
        self._usable: dict[str, str] = {}  # suite -> the mirror that carries it
        self._unreachable: dict[str, str] = {}  # mirror -> what apt said of it
        self._config = folder / "apt.conf"
        self._debs = folder / "debs"
        with reported_as_provision_error("make apt folders", folder):
            self._make_folders()

    def _make_folders(self) -> None:
        for name in ("etc/parts", "etc/trusted.gpg.d", "etc/preferences.d", "state/lists/partial", "archives/partial"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self._debs.mkdir(exist_ok=True)
        (self._folder / "empty").mkdir(exist_ok=True)
        (self._folder / "status").touch()
        lines = [f"{key} {_quote(value)};" for key, value in self._plan_config()]
        self._config.write_text("\n".join(lines) + "\n", "utf-8")

    def _plan_config(self) -> list[tuple[str, str]]:
        folder = self._folder
        return [
            ("Dir::Etc", str(folder / "etc")),
            ("Dir::Etc::parts", str(folder / "etc/parts")),
            ("Dir::Etc::main", "-"),
            ("Dir::Etc::sourceparts", "-"),
            ("Dir::Etc::preferences", "-"),
            ("Dir::Etc::preferencesparts", str(folder / "etc/preferences.d")),
            ("Dir::Etc::trusted", "-"),
            ("Dir::Etc::trustedparts", str(folder / "etc/trusted.gpg.d")),
            ("Dir::State", str(folder / "state")),
            ("Dir::State::status", str(folder / "status")),
            ("Dir::Cache", str(folder)),
            ("Dir::Cache::archives", str(folder / "archives")),
            ("Dir::Cache::pkgcache", ""),
            ("Dir::Cache::srcpkgcache", ""),
            ("Dir::Log", str(folder)),
            ("APT::Architecture", ARCHITECTURE),
            ("APT::Architectures", ARCHITECTURE),
            ("APT::Sandbox::User", "root"),  # as root, the user _apt can't read a private folder
            ("APT::Install-Recommends", "false"),
            ("APT::Get::List-Cleanup", "false"),  # lists of other suites stay
            ("Acquire::Languages", "none"),
            ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false"),
            *self._settings.options,
        ]

    def update(self, suites: Sequence[str]) -> tuple[str, ...]:
        """Fetch the signed indexes of `suites`, and return those that could be had.

        One that could not is told as a note; later calls do not ask for it again.

        Raises:
            ProvisionError: none could be had.
        """
        wanted = [suite for suite in suites if suite not in self._usable]
        if wanted:
            self._progress.step(f"fetch package indexes of {', '.join(wanted)}")
        if self._update_at_once(wanted):
            return tuple(suites)
        problems = {suite: self._update_one(suite) for suite in wanted}
        usable = tuple(suite for suite in suites if suite in self._usable)
        if not usable:
            raise self._no_index(problems)
        for suite, problem in problems.items():
            if problem:
                self._progress.note(f"suite {suite} left out: {parse_problem(problem)}")
        return usable

    def _update_at_once(self, suites: Sequence[str]) -> bool:
        # Whether the first mirror of each had all of them: the usual case, and the quickest. One that is gone makes
        # all fail, and only one by one is it seen which.
        mirrors = {suite: uri for suite in suites for uri in self._settings.mirrors.of(suite)[:1]}
        if len(mirrors) != len(suites):
            return False
        problem = self._try_update(mirrors) if mirrors else ""
        if classify(problem).name == "network":
            self._unreachable |= {uri: problem for uri in mirrors.values() if uri in problem}
        return not problem

    def _update_one(self, suite: str) -> str:
        # What apt said of the last mirror, or an empty text when one of them carries the suite.
        problem = f"E: no mirror of the distribution's archive is configured for {suite}"
        for uri in self._settings.mirrors.of(suite):
            if uri in self._unreachable:  # each further try would wait as long as the first
                problem = self._unreachable[uri]
                continue
            problem = self._try_update({suite: uri})
            if not problem:
                return ""
            if classify(problem).name == "network":
                self._unreachable[uri] = problem
        return problem

    def _try_update(self, mirrors: Mapping[str, str]) -> str:
        expiry = "false" if self._settings.accepts_expired else "true"
        options = {
            "APT::Update::Error-Mode": "any",  # also what apt takes for passing trouble
            "Acquire::Check-Valid-Until": expiry,
            "Acquire::Check-Date": expiry,
        }
        done = self._run(["apt-get", "update"], mirrors, options)
        if done.returncode:
            problem = done.stderr + done.stdout[-2000:]
            if classify(problem).name == "space":  # no other suite or mirror would help
                raise self._no_index(dict.fromkeys(mirrors, problem))
            return problem
        self._usable.update(mirrors)
        if self._settings.accepts_expired:
            self._tell_expired(mirrors)
        return ""

    def _tell_expired(self, suites: Iterable[str]) -> None:
        for suite in suites:
            for path in (self._folder / "state" / "lists").glob(f"*_dists_{suite}_InRelease"):
                expiry = parse_expiry(path.read_text("utf-8", errors="replace"))
                if expiry is not None and expiry < datetime.now(UTC):
                    self._progress.note(
                        f"the index of {suite} expired on {expiry:%d %B %Y}; it is signed, and taken all the same, as "
                        "this machine's apt or KERNELPROOF_EXPIRED says"
                    )

    def _no_index(self, problems: Mapping[str, str]) -> ProvisionError:
        suite, problem = next(iter(problems.items()))
        trouble = classify(problem)
        return ProvisionError("fetch package index", suite, parse_problem(problem), _remedy(trouble, self._settings))

    def resolve(self, suites: Sequence[str], packages: Sequence[str]) -> tuple[Package, ...]:
        """The files that make up `packages` with all they depend on, on a system where nothing is installed.

        Raises:
            ProvisionError: a package is unknown or can't be installed from `suites`.
        """
        self._progress.step(f"resolve {len(packages)} packages")
        words = ["apt-get", "--yes", "--print-uris", "install", *packages]
        return self._read_uris(suites, words, packages)

    def locate(self, suites: Sequence[str], packages: Sequence[str]) -> tuple[Package, ...]:
        """The files of just these `packages`, each a name or `NAME=VERSION`.

        Raises:
            ProvisionError: a package is unknown.
        """
        return self._read_uris(suites, ["apt-get", "--print-uris", "download", *packages], packages)

    def _read_uris(self, suites: Sequence[str], words: list[str], packages: Sequence[str]) -> tuple[Package, ...]:
        done = self._run(words, self._mirrors(suites), {"Dir::Cache::archives": str(self._folder / "empty")})
        if done.returncode:
            raise ProvisionError(
                "resolve packages",
                " ".join(packages),
                parse_problem(done.stderr),
                f"look whether the suites {', '.join(suites)} of the mirror carry them",
            )
        return parse_uris(done.stdout)

    def names(self, suites: Sequence[str], prefix: str) -> tuple[str, ...]:
        """The names of all packages that begin with `prefix`."""
        done = self._run(["apt-cache", "pkgnames", prefix], self._mirrors(suites), {})
        return tuple(sorted(done.stdout.split())) if done.returncode == 0 else ()

    def show(self, suites: Sequence[str], names: Sequence[str]) -> tuple[dict[str, str], ...]:
        """The index's paragraphs of all versions of the packages `names`; unknown names give none."""
        if not names:
            return ()
        done = self._run(["apt-cache", "show", *names], self._mirrors(suites), {})
        return tuple(fields for _, fields in parse_paragraphs(done.stdout, "apt-cache show"))

    def fetch(self, packages: Sequence[Package]) -> tuple[Path, ...]:
        """Download what is not there yet, and return the file of each package; apt and we have checked its SHA-256.

        Raises:
            ProvisionError: a download failed, or a file is not what the signed index says.
        """
        files = {package.sha256: self._debs / f"{package.sha256}.deb" for package in packages}
        with reported_as_provision_error("check downloaded packages", self._debs):
            for sha256, path in files.items():
                if path.exists() and digest_file(path) != sha256:
                    path.unlink()
        missing = [package for package in packages if not files[package.sha256].exists()]
        if missing:
            self._download(missing)
        return tuple(files.values())

    def _download(self, packages: Sequence[Package]) -> None:
        total = sum(package.size for package in packages)
        self._progress.step(f"download {len(packages)} packages, {total / 1e6:.0f} MB")
        words = [HELPER, "download-file"]
        for package in packages:
            words += [package.uri, str(self._debs / f"{package.sha256}.part"), f"SHA256:{package.sha256}"]
        done = self._run(words, self._usable, {}, lambda percent: self._progress.advance(percent, 100.0))
        with reported_as_provision_error("keep downloaded packages", self._debs):
            for package in packages:
                self._keep(package)
        broken = [package for package in packages if not (self._debs / f"{package.sha256}.deb").exists()]
        if broken or done.returncode:
            names = ", ".join(package.name for package in broken[:5]) or "packages"
            trouble = classify(done.stderr)
            raise ProvisionError(
                "download",
                names,
                parse_problem(done.stderr),
                _remedy(trouble, self._settings) + "; what is there is kept",
            )

    def _keep(self, package: Package) -> None:
        part = self._debs / f"{package.sha256}.part"
        if part.is_symlink():  # what apt makes of a file: address; the mirror may change under it
            source = part.readlink()
            part.unlink()
            shutil.copyfile(source, part)
        if part.exists() and part.stat().st_size == package.size and digest_file(part) == package.sha256:
            part.rename(self._debs / f"{package.sha256}.deb")
        Path(f"{part}.FAILED").unlink(missing_ok=True)

    def _mirrors(self, suites: Sequence[str]) -> dict[str, str]:
        return {suite: self._usable[suite] for suite in suites if suite in self._usable}

    def _run(
        self,
        words: Sequence[str],
        mirrors: Mapping[str, str],
        options: Mapping[str, str],
        on_percent: Callable[[float], None] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        program = shutil.which(words[0])
        if program is None:
            raise ProvisionError(
                "run apt",
                words[0],
                "not found",
                "use a Debian host, or pass --kernel-image and --guest-root",
            )
        with reported_as_provision_error("write apt sources", self._folder):
            sources = self._folder / "etc" / "sources.list"
            sources.write_text(format_sources(mirrors, self._settings), "utf-8")
        options = {**options, "Dir::Etc::sourcelist": str(sources), **dict(DEMANDED)}
        command = [program, *(word for pair in options.items() for word in ("-o", "=".join(pair))), *words[1:]]
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment |= {"APT_CONFIG": str(self._config), "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        return _run_watched(bound_to_us(command), environment, self._folder / "empty", on_percent)


def bound_to_us(command: Sequence[str]) -> list[str]:
    """The command, so that it ends when the thread that starts it does, however that ends; needs setpriv(1)."""
    setpriv = shutil.which("setpriv")
    return [*((setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()), *command]


def _run_watched(
    command: list[str], environment: dict[str, str], folder: Path, on_percent: Callable[[float], None] | None
) -> subprocess.CompletedProcess[str]:
    if on_percent is None:
        return subprocess.run(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    reader, writer = os.pipe2(os.O_CLOEXEC)
    command = [*command, "-o", f"APT::Status-Fd={writer}", "-qq"]
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=(writer,),
        )
    finally:
        os.close(writer)
    with process, os.fdopen(reader, encoding="utf-8", errors="replace") as status:
        for line in status:
            percent = parse_percent(line)
            if percent is not None:
                on_percent(percent)
        _, errors = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, "", errors)


def format_sources(mirrors: Mapping[str, str], settings: AptSettings) -> str:
    """A `sources.list` for suites and the mirror of each, all signed by the settings' keyring."""
    options = f"[arch={ARCHITECTURE} signed-by={settings.keyring}]"
    components = " ".join(settings.components)
    return "".join(f"deb {options} {uri} {suite} {components}\n" for suite, uri in mirrors.items())


def _quote(value: str) -> str:
    return '"' + value.replace('"', "%22") + '"'


def _remedy(trouble: Trouble, settings: AptSettings) -> str:
    if not settings.mirrors.archive:
        return "configure a mirror of the distribution's archive in /etc/apt/sources.list.d"
    return trouble.remedy
