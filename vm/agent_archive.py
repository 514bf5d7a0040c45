"""Packs the guest's side of this package, and what the profile wants of it, as the last archive of the initramfs. Pure.

It is put together anew for each template and never compiled ahead: a stale bytecode file would run old code without
a word.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

from kernelproof.vm.cpio import Member, make_directory, make_file, make_link, write_newc
from kernelproof.vm.guest.frames import AGENT_DIED
from kernelproof.vm.profiles import Profile

PLACE = "usr/lib/kernelproof-agent"

# Python would ask the kernel for random numbers that it does not have yet. With a fixed seed of string hashes it does
# not ask, and sets have the same order in all runs. PID 1 clears the environment.
INIT = f"""#!/bin/sh
PYTHONHASHSEED=0 PYTHONPATH=/{PLACE} exec /usr/bin/python3 -P -c 'from kernelproof.vm.guest.init import main; main()'
"""

# With systemd as init the agent is a service that starts when all others have, and whose end is that of the machine.
HAND_OVER = INIT.replace("main", "hand_over")
UNIT = f"""[Unit]
Description=kernelproof's agent
After=multi-user.target
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=exec
ExecStart=/usr/bin/python3 -P -c 'from kernelproof.vm.guest.init import serve_as_service; serve_as_service()'
ExecStopPost=/bin/sh -c 'echo {AGENT_DIED} $EXIT_CODE $EXIT_STATUS'
Environment=PYTHONHASHSEED=0 PYTHONPATH=/{PLACE}
StandardOutput=file:/dev/console
StandardError=file:/dev/console
Delegate=yes
TasksMax=infinity
"""
TARGET = """[Unit]
Description=kernelproof's machine
Requires=multi-user.target
Wants=kernelproof-agent.service
After=multi-user.target
AllowIsolate=yes
"""
MACHINE_ID = "6b65726e656c70726f6f660000000001\n"  # the same in all machines, as their host name

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
        *_init_members(profile.init),
    ]
    packed = io.BytesIO()
    write_newc(packed, members)
    return packed.getvalue()


def _init_members(init: str) -> list[Member]:
    if init != "systemd":
        return [make_file("init", INIT.encode(), 0o755)]
    place = "etc/systemd/system"
    return [
        make_file("init", HAND_OVER.encode(), 0o755),
        make_file("etc/machine-id", MACHINE_ID.encode()),
        make_file("etc/hostname", b"kernelproof\n"),
        make_file(f"{place}/kernelproof-agent.service", UNIT.encode()),
        make_file(f"{place}/kernelproof.target", TARGET.encode()),
        make_link(f"{place}/default.target", "kernelproof.target"),
    ]
