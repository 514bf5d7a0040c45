"""Decides what of this machine's apt configuration is taken over, and what is not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from kernelproof.vm.apt import AptSettings
from kernelproof.vm.apt_sources import plan_mirrors, read_sources
from kernelproof.vm.distribution import Distribution, read_distribution
from kernelproof.vm.errors import ProvisionError

EXPIRED = "KERNELPROOF_EXPIRED"
_TAKEN = ("acquire::http::", "acquire::https::", "acquire::socks::", "acquire::forceipv", "acquire::retries")
_LINE = re.compile(r'(?P<key>[^\s"]+) "(?P<value>[^"]*)";')
_NO = ("false", "no", "0", "off", "without", "disable")


def parse_dump(text: str) -> tuple[tuple[str, str], ...]:
    """Parse `apt-config dump`: each key and value, in order."""
    return tuple((match["key"], match["value"]) for match in map(_LINE.fullmatch, text.splitlines()) if match)


def plan_options(dump: Iterable[tuple[str, str]], directory: Path = Path("/etc/apt")) -> tuple[tuple[str, str], ...]:
    """The options to take over: proxies, certificates, retries, and where passwords for mirrors are."""
    taken = [(key, value) for key, value in dump if key.lower().startswith(_TAKEN) and value]
    return (
        *taken,
        ("Dir::Etc::netrc", str(directory / "auth.conf")),
        ("Dir::Etc::netrcparts", str(directory / "auth.conf.d")),
    )


def plan_expiry(dump: Iterable[tuple[str, str]], environment: Mapping[str, str]) -> bool:
    """Whether an index past its `Valid-Until` is taken.

    `KERNELPROOF_EXPIRED` says `accept` or `refuse`. Without it the machine's own word holds: who keeps a frozen mirror
    has set `Acquire::Check-Valid-Until` to false. An old index can hide security updates; it can't be a forged one.

    Raises:
        ProvisionError: the variable says something else.
    """
    said = environment.get(EXPIRED, "")
    if said not in ("", "accept", "refuse"):
        raise ProvisionError("read settings", EXPIRED, repr(said), "say accept or refuse")
    if said:
        return said == "accept"
    values = [value.lower() for key, value in dump if key.lower() == "acquire::check-valid-until"]
    return bool(values) and values[-1] in _NO


def find_keyring(distribution: Distribution) -> Path:
    """The keyring of the distribution.

    Raises:
        ProvisionError: there is none.
    """
    for path in distribution.keyrings:
        if path.is_file():
            return path
    step, remedy = f"find the {distribution.about} keyring", f"install the package {distribution.keyring_package}"
    raise ProvisionError(step, str(distribution.keyrings[0]), "not there", remedy)


def read_apt_settings(environment: Mapping[str, str] = os.environ) -> AptSettings:
    """What this machine is configured for.

    Raises:
        ProvisionError: there is no apt, its sources can't be read, or no keyring of Debian is there.
    """
    program = shutil.which("apt-config")
    if program is None:
        raise ProvisionError(
            "read apt's configuration",
            "apt-config",
            "not found",
            "use a Debian host, or pass --kernel-image and --guest-root",
        )
    try:
        sources = read_sources()
    except (OSError, ValueError) as error:
        raise ProvisionError("read package sources", "/etc/apt", str(error), "mend that file") from error
    done = subprocess.run(
        [program, "dump"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env={**environment}
    )
    if done.returncode:
        raise ProvisionError("read apt's configuration", program, done.stderr.strip(), "mend apt's configuration")
    dump = parse_dump(done.stdout)
    distribution = read_distribution()
    return AptSettings(
        plan_mirrors(sources, distribution),
        find_keyring(distribution),
        plan_options(dump),
        plan_expiry(dump, environment),
        distribution.components,
    )
