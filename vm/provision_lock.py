"""Makes the lock file of a project's guest packages: `python -m kernelproof.vm.provision_lock [PROJECT]`.

pip resolves `[tool.kernelproof] guest-requirements` for the guest's Python, and each version is written down with the
digest of the one file that was chosen. Only that file is ever installed. pytest and what it needs are not in it: the
guest has them as the host has them, and what else is chosen must agree with those versions. pip judges environment
markers by the Python that runs it: run this with one that is no newer than the guest's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

from packaging.utils import canonicalize_name

from kernelproof.vm.cache import Cache, reported_as_provision_error
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.provision_context import Provisioning
from kernelproof.vm.provision_progress import open_progress
from kernelproof.vm.provision_site import (
    FROM_HOST,
    find_distributions,
    find_pip,
    format_requirements,
    plan_pip_target,
    read_table,
    summarize_pip,
)
from kernelproof.vm.provision_tools import provide_tools
from kernelproof.vm.provision_types import Progress


def format_lock(requirements: Sequence[str], report: Mapping[str, object], copied: Collection[str]) -> str:
    """The lock file for what pip's installation report says it would install for `requirements`.

    Args:
        requirements: What was asked for.
        report: In the format that pip's documentation calls version 1.
        copied: Normal names of packages that the guest has from the host, and that are left out.

    Raises:
        ValueError: the report is not of a version that is known, or names a file without SHA-256.
    """
    if report.get("version") != "1":
        raise ValueError(f"an installation report of version {report.get('version')!r}, not 1")
    lines = []
    items = report.get("install")
    for item in items if isinstance(items, list) else []:
        metadata, download = item["metadata"], item["download_info"]
        name = canonicalize_name(metadata["name"])
        if name in copied:
            continue
        sha256 = download.get("archive_info", {}).get("hashes", {}).get("sha256")
        if not isinstance(sha256, str):
            raise ValueError(f"{name}: no SHA-256 of {download.get('url')}")
        lines.append(f"{name}=={metadata['version']} \\\n    --hash=sha256:{sha256}\n")
    head = "# Python packages of the guest, beside pytest. Made by python -m kernelproof.vm.provision_lock.\n"
    return head + format_requirements(requirements) + "".join(sorted(lines))


def lock_guest(project: Path, *, cache: Cache, progress: Progress) -> Path:
    """Resolve the guest requirements of `project`, write its lock file anew and return it.

    Raises:
        ProvisionError: the project's table is incomplete, pip could not resolve it, or the file can't be written.
    """
    table = read_table(project)
    if table.lock is None:
        raise ProvisionError(
            "lock guest packages", str(project / "pyproject.toml"), "no guest-lock", "name a file in [tool.kernelproof]"
        )
    with Provisioning(cache, progress) as context, NamedTemporaryFile("w", suffix=".txt") as constraints:
        python = provide_tools(context, context.suites).python
        copied = {
            canonicalize_name(item.metadata["Name"]): item.version for item in find_distributions(FROM_HOST, python)
        }
        constraints.writelines(f"{name}=={version}\n" for name, version in copied.items())
        constraints.flush()
        progress.step("resolve the guest's Python packages")
        words = ["install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-", "--only-binary", ":all:"]
        words += ["--disable-pip-version-check", "--no-input", "--constraint", constraints.name]
        # Nothing is written there; pip before 24 wants a place for another Python's packages all the same.
        words += ["--target", os.path.join(os.path.dirname(constraints.name), "kernelproof-none")]
        words += [*plan_pip_target(python), "--", *table.requirements]
        done = subprocess.run(
            [*find_pip(context), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise ProvisionError(
            "resolve guest packages",
            ", ".join(table.requirements),
            summarize_pip(done.stderr),
            "change the requirements, or connect to the network",
        )
    try:
        text = format_lock(table.requirements, json.loads(done.stdout), copied)
    except (ValueError, LookupError) as error:
        raise ProvisionError("resolve guest packages", "pip's report", str(error), "use pip 23 or later") from error
    with reported_as_provision_error("write guest lock", table.lock):
        table.lock.write_text(text, "utf-8")
    return table.lock


def main(arguments: Sequence[str]) -> int:
    """The command: one argument at most, the project's folder."""
    project = Path(arguments[0]) if arguments else Path.cwd()
    try:
        with open_progress(sys.stderr) as progress:
            print(lock_guest(project.absolute(), cache=Cache(), progress=progress))
    except ProvisionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
