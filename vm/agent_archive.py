"""Packs the guest's side of this package, and what the profile wants of it, as the last archive of the initramfs. Pure.

It is put together anew for each template and never compiled ahead: a stale bytecode file would run old code without
a word.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

from kernelproof.vm.cpio import make_directory, make_file, write_newc
from kernelproof.vm.profiles import Profile

PLACE = "usr/lib/kernelproof-agent"

# Python would ask the kernel for random numbers that it does not have yet. With a fixed seed of string hashes it does
# not ask, and sets have the same order in all runs. PID 1 clears the environment.
INIT = f"""#!/bin/sh
PYTHONHASHSEED=0 PYTHONPATH=/{PLACE} exec /usr/bin/python3 -P -c 'from kernelproof.vm.guest.init import main; main()'
"""

_GUEST = Path(__file__).with_name("guest")


def read_agent(guest: Path = _GUEST) -> Mapping[str, bytes]:
    """The modules that run in the guest, by their path below `PLACE`.

    Raises:
        OSError: they can't be read.
    """
    package = guest.parent
    files = {
        "kernelproof/__init__.py": package.parent / "__init__.py",
        "kernelproof/vm/__init__.py": package / "__init__.py",
    }
    files |= {f"kernelproof/vm/guest/{path.name}": path for path in sorted(guest.glob("*.py"))}
    return {name: path.read_bytes() for name, path in files.items()}


def pack_agent(profile: Profile, modules: Mapping[str, bytes]) -> bytes:
    """The archive: the modules, what the profile says to them, and /init."""
    wanted = ("modules", "imports", "settings", "commands", "init")
    settings = {name: getattr(profile, name) for name in wanted}
    folders = ("", "/kernelproof", "/kernelproof/vm", "/kernelproof/vm/guest")
    members = [
        *(make_directory(f"{PLACE}{folder}") for folder in folders),
        *(make_file(f"{PLACE}/{name}", data) for name, data in modules.items()),
        make_file(f"{PLACE}/profile.json", json.dumps(settings).encode()),
        make_file("init", INIT.encode(), 0o755),
    ]
    packed = io.BytesIO()
    write_newc(packed, members)
    return packed.getvalue()
