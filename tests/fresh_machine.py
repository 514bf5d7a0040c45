"""Runs the README's commands on a machine that has next to nothing: `nox -s fresh -- [--release NAME] [COMMAND …]`.

A minimal Debian root (essential packages, apt, python3, ca-certificates) is made with mmdebstrap from the signed
sources of this machine, the files of the checkout are copied in, and each command runs there, the first one a
second time without network: as an ordinary user, and then as root, whose installations come too late for the user.
What says how to reach mirror and package index (apt's transport settings, pip's settings, certificates, proxies) is
handed in as data.

Not for use without root: it mounts and changes the root directory, in name spaces of its own that end with it.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import start

USERS = ("tester", "root")
REACH = (
    "PIP_",
    "SSL_CERT_",
    "REQUESTS_CA_BUNDLE",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
)
PIP_FILES = ("/etc/pip.conf", "/etc/xdg/pip")
MOUNTS = (
    ("proc", "proc", "proc"),
    ("tmpfs", "dev/shm", "size=1g,mode=1777"),
    ("devpts", "dev/pts", "newinstance,ptmxmode=0666,mode=0620"),
)


class Round(NamedTuple):
    """One command line of start.py, as one user, with or without network."""

    user: str
    arguments: tuple[str, ...]
    network: bool

    def describe(self) -> str:
        """The round in words."""
        return f"{self.user}, network {'on' if self.network else 'off'}: python3 start.py {shlex.join(self.arguments)}"


class Outcome(NamedTuple):
    """How a round ended. CPU is that of every process that was waited for."""

    round: Round
    status: int
    wall_seconds: float
    cpu_seconds: float

    def describe(self) -> str:
        """The outcome in one line."""
        verdict = "pass" if self.status == 0 else f"fail ({self.status})"
        return f"{verdict:<10} {self.wall_seconds:6.0f} s, CPU {self.cpu_seconds:5.0f} s  {self.round.describe()}"


def plan_rounds(command_lines: list[str]) -> list[Round]:
    """The README's commands, or the given command lines, for both users; the first a second time without network."""
    default = ["conformance -- -k mydocker0", "tests -- --smoke"]
    commands = [tuple(shlex.split(line)) for line in command_lines or default]
    order = [(commands[0], True), (commands[0], False), *((command, True) for command in commands[1:])]
    return [Round(user, command, network) for user in USERS for command, network in order]


def plan_environment(user: str, host: Mapping[str, str]) -> dict[str, str]:
    """A bare login's environment, and how this machine reaches its index."""
    home = "/root" if user == "root" else f"/home/{user}"
    bare = {"HOME": home, "USER": user, "LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
    return bare | {name: value for name, value in host.items() if name.startswith(REACH)}


def plan_sources(sources: list[start.Source], own: str, release: str) -> list[start.Source]:
    """Of this machine's sources those of its own release `own`, as another release has them.

    Raises:
        start.Failure: no signed source of this machine has its own release.
    """
    kept = [source for source in sources if source.suite.split("-")[0] == own]
    if not kept:
        remedy = "run on a Debian whose /etc/apt has its own release"
        raise start.Failure("make a minimal root", own, "no signed source has it", remedy)
    if own == release:
        return kept
    # Its keyring may have another name: its own trusted folder will do.
    return [source._replace(suite=release + source.suite.removeprefix(own), signed_by="") for source in kept]


def plan_command(folder: Path, release: str, transport: list[str]) -> list[str]:
    """mmdebstrap's command line: sources from `host.sources`, the root into `root`."""
    options = [f"--aptopt={line}" for line in transport]
    command = [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        "--include=python3,ca-certificates",
        *options,
    ]
    return [*command, release, str(folder / "root"), str(folder / "host.sources")]


def read_suite() -> str:
    """This machine's release by name, from os-release."""
    words = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return words.get("VERSION_CODENAME", "").strip('"')


def check_tools() -> None:
    """See that this can work at all; as root, what is missing is installed.

    Raises:
        start.Failure: not root, or no mmdebstrap and no way to it.
    """
    if os.geteuid() != 0:
        raise start.Failure(
            "make a minimal root", "mmdebstrap, chroot", "not root", "run `sudo python3 start.py fresh`"
        )
    if shutil.which("mmdebstrap") is None:
        install = ["apt-get", "install", "--yes", "--no-install-recommends", "mmdebstrap"]
        start.run("install mmdebstrap", ["apt-get", "update"], "run `apt-get update` by hand")
        start.run("install mmdebstrap", install, f"run `{shlex.join(install)}` by hand")


def copy_checkout(root: Path, user: str) -> None:
    """Copy the checkout's files as they are now, new ones included, ignored ones not, into the user's home."""
    home = root / ("root" if user == "root" else f"home/{user}")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = start.run("list the checkout", command, "run it in a git checkout")
    for name in filter(None, listing.split("\0")):
        target = home / "kernelproof" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (start.ROOT / name).is_symlink():
            target.symlink_to(os.readlink(start.ROOT / name))
        elif (start.ROOT / name).is_file():
            shutil.copy(start.ROOT / name, target)


def copy_settings(root: Path) -> None:
    """Lay the host's way to its package index into the root: names, pip's settings, certificates."""
    named = [value for name, value in os.environ.items() if name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")]
    for name in ("/etc/resolv.conf", "/etc/hosts", *PIP_FILES, *named):
        source, target = Path(name), root / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copyfile(source, target)
    own = Path.home() / ".config/pip/pip.conf"
    for home in ("root", "home/tester"):
        if own.is_file():
            (root / home / ".config/pip").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(own, root / home / ".config/pip/pip.conf")


@contextmanager
def minimal_root(release: str) -> Iterator[Path]:
    """A minimal Debian of a release with an ordinary user and a checkout for each, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="kernelproof-fresh-", dir="/var/tmp"))
    root = folder / "root"
    try:
        start.say(f"making a minimal root of {release}")
        transport = start.parse_transport(start.run("read apt's settings", ["apt-config", "dump"], "install apt"))
        sources = plan_sources(start.read_sources(), read_suite(), release)
        (folder / "host.sources").write_text("\n".join(map(start.format_source, sources)))
        folder.chmod(0o755)
        start.run("make a minimal root", plan_command(folder, release, transport), "see what mmdebstrap says above")
        start.run("add a user", ["chroot", str(root), "useradd", "--create-home", "tester"], "see above")
        copy_settings(root)
        for user in USERS:
            copy_checkout(root, user)
        start.run(
            "give the user its home", ["chroot", str(root), "chown", "-R", "tester:", "/home/tester"], "see above"
        )
        yield root
    finally:
        start.run("remove the root", ["rm", "-rf", "--one-file-system", str(folder)], f"remove {folder} by hand")


def play(root: Path, one: Round) -> Outcome:
    """Run one round in name spaces of its own."""
    spaces = ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", *([] if one.network else ["--net"])]
    inside = [sys.executable, __file__, "--inside", str(root), one.user, *one.arguments]
    begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    status = subprocess.run([*spaces, *inside], check=False).returncode
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Outcome(one, status, time.monotonic() - begin, cpu)


def enter(root: str, user: str, arguments: list[str]) -> None:
    """Mount what a machine has, change the root directory and the user, become start.py."""
    # A root directory of a machine is a mount point.
    start.run("mount", ["mount", "--bind", root, root], "run as root, outside of a container without rights")
    for kind, target, options in MOUNTS:
        where = os.path.join(root, target)
        os.makedirs(where, exist_ok=True)
        words = ["-t", kind, *([] if options == kind else ["-o", options])]
        start.run("mount", ["mount", *words, kind, where], "run as root, outside of a container without rights")
    environment = plan_environment(user, os.environ)
    os.chroot(root)
    os.chdir(environment["HOME"] + "/kernelproof")
    if user != "root":
        os.setgroups([])
        os.setgid(1000)
        os.setuid(1000)
    os.execve("/usr/bin/python3", ["python3", "start.py", *arguments], environment)


def main(arguments: list[str]) -> int:
    """Exit status 0 when every round ended with 0."""
    if arguments[:1] == ["--inside"]:
        enter(arguments[1], arguments[2], arguments[3:])
    parser = argparse.ArgumentParser(description="The README's commands in a minimal Debian.")
    parser.add_argument("--release", default=read_suite(), help="of Debian, by name (default: this machine's)")
    parser.add_argument("command", nargs="*", help="command lines of start.py instead of the README's")
    chosen = parser.parse_args(arguments)
    outcomes = []
    try:
        check_tools()
        with minimal_root(chosen.release) as root:
            for one in plan_rounds(chosen.command):
                start.say(one.describe())
                outcomes.append(play(root, one))
    except start.Failure as failure:
        start.say(str(failure))
        return 1
    except KeyboardInterrupt:
        return 130
    print(*(outcome.describe() for outcome in outcomes), sep="\n")
    return 0 if all(outcome.status == 0 for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
