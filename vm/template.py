"""A kind of machine, ready to be cloned: a kernel, a profile, a kind of time.

    with Template("6.12", profile="plain", time="real").clone() as machine:
        print(machine.run(["uname", "-r"]).stdout)

The first use fetches what is missing and boots once; all later ones, in this run and the next, start from the snapshot.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from kernelproof.vm.accelerator import Choice, choose_accelerator
from kernelproof.vm.agent_archive import pack_agent, read_agent
from kernelproof.vm.base import Ingredients, provide_base
from kernelproof.vm.cache import Cache, digest_record
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.machine import Machine
from kernelproof.vm.messages import Plain
from kernelproof.vm.process import Spawner
from kernelproof.vm.profiles import Profile, find_profile
from kernelproof.vm.provision import Provisioned, provision
from kernelproof.vm.provision_types import Progress, Qemu, SilentProgress
from kernelproof.vm.qemu import OLDEST, MachineSpec, parse_newest_q35, template_record
from kernelproof.vm.running import Program
from kernelproof.vm.session_store import provide_session
from kernelproof.vm.snapshot import SessionTemplate, Snapshot
from kernelproof.vm.wishes import NO_WISHES, Wishes

__all__ = ["SessionTemplate", "Template"]

T = TypeVar("T")

# Packages whose programs or modules tests observe with; their versions go into the header of the results.
OBSERVERS = ("iproute2", "util-linux", "procps", "sqlite3", "strace", "pyroute2")


class Template:
    """Machines of one kind. Nothing happens before the first use.

    Args:
        kernel: A series: "6.12"; or a role of kernels.toml: "newest".
        profile: A row of profiles.toml.
        time: "virtual": the clock counts instructions and jumps over idle waits (real where KVM is used); or "real".
        cache: Where what is fetched and made is kept.
        progress: Is told what is done.
        project: The folder whose pyproject.toml says which Python packages the guest needs.
        accelerator: "tcg" or "kvm" to force one; by default $KERNELPROOF_ACCELERATOR, else what a real boot proves.
        wishes: A kernel or a root of one's own, more packages, more kernel words.
        check: Whether one from the cache has to answer before it is used; as `provide_base` says.

    Raises:
        ValueError: not a kind of time.
        ProvisionError: no such profile.
    """

    def __init__(
        self,
        kernel: str = "6.12",
        *,
        profile: str = "plain",
        time: str = "virtual",
        cache: Cache | None = None,
        progress: Progress | None = None,
        project: Path | None = None,
        accelerator: str | None = None,
        wishes: Wishes = NO_WISHES,
        check: bool = True,
    ) -> None:
        if time not in ("virtual", "real"):
            raise ValueError(f"time {time!r}: not virtual or real")
        self._kernel, self._profile, self._time = kernel, find_profile(profile), time
        self._cache = Cache() if cache is None else cache
        self._progress = SilentProgress() if progress is None else progress
        self._project = project
        self._wishes = wishes
        self._check = check
        self._accelerator = accelerator or os.environ.get("KERNELPROOF_ACCELERATOR")
        self._spawner = Spawner()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def facts(self) -> Mapping[str, Plain]:
        """Kernel, guest and machine as the header of the results has them. Fetches what is missing.

        Raises:
            ProvisionError: it could not be had.
        """
        return self._ingredients.facts

    def clone(self) -> Machine:
        """A new machine. Close it, or use it in a `with`; the template need not be kept.

        Raises:
            ProvisionError: what it is made of could not be had, does not boot, or finds too little memory.
            MachineLost: the clone did not start.
        """
        return self._base.clone()

    def session(self, prepare: Callable[[Machine], T], shift: int = 0) -> tuple[SessionTemplate, T]:
        """A template of this one's machine after `prepare` changed it, and what `prepare` returned.

        Args:
            prepare: Is given the machine.
            shift: In virtual time an instruction takes 2 to this power nanoseconds.

        Raises:
            As `clone`, and whatever `prepare` raises.
        """
        self._progress.step(f"prepare session {self._ingredients.label}")
        return self._base.derive(prepare, shift)

    def kept_session(
        self, made_of: Mapping[str, object], prepare: Callable[[Machine], Mapping[str, object]], shift: int = 0
    ) -> tuple[SessionTemplate, Mapping[str, object]]:
        """As `session`, of which the one that was made of the same within the last hour is taken from the cache.

        Args:
            made_of: All that `prepare` brings into the machine, as a record.
            prepare: Is given the machine, where there is no such session; returns the guest's answer.
            shift: As for `session`.

        Raises:
            As `session`.
        """
        base = self._base
        record = {"format": 1, "base": template_record(self._ingredients.spec), "shift": shift, "made_of": made_of}
        self._progress.step(f"prepare session {self._ingredients.label}")
        return provide_session(base, digest_record(record), self._cache, prepare, shift)

    def kill(self) -> None:
        """From any thread: end every QEMU that was started for it, so that what waits for one fails."""
        self._spawner.kill()

    def close(self) -> None:
        """Give back what it holds; machines and session templates made of it go on."""
        if "_base" in self.__dict__:
            self._base.close()
            del self.__dict__["_base"]

    @cached_property
    def _base(self) -> Snapshot:
        return provide_base(self._ingredients, self._cache, self._progress, self._spawner, check=self._check)

    @cached_property
    def _ingredients(self) -> Ingredients:
        made = provision(
            self._kernel,
            self._profile.packages,
            cache=self._cache,
            progress=self._progress,
            project=self._project,
            wishes=self._wishes,
        )
        program = Program(str(made.qemu.executable), made.qemu.environment)
        machine = read_machine_type(made.qemu)
        chosen = choose_accelerator(
            made, machine, self._accelerator, cache=self._cache, spawner=self._spawner, progress=self._progress
        )
        agent = pack_agent(self._profile, read_agent())
        profile = replace(self._profile, words=(*self._profile.words, *self._wishes.words))
        spec = plan_machine(made, profile, self._time, machine, chosen, hashlib.sha256(agent).hexdigest())
        return Ingredients(
            spec=spec,
            program=program,
            kernel=made.kernel.vmlinux,
            archives=(made.root.cpio, made.kernel.modules_cpio, made.site.cpio),
            agent=agent,
            label=f"{made.kernel.name or made.kernel.series} {self._profile.name} {spec.time}",
            facts=describe(made, spec),
        )


def read_machine_type(qemu: Qemu) -> str:
    """The newest versioned q35 that this QEMU has.

    Raises:
        ProvisionError: QEMU is too old, does not start, or knows none.
    """
    version = ".".join(map(str, qemu.version))
    if qemu.version < OLDEST:
        raise ProvisionError("use QEMU", version, "too old", f"install QEMU {'.'.join(map(str, OLDEST))} or later")
    command = (str(qemu.executable), *qemu.arguments, "-machine", "help")
    environment = {"LC_ALL": "C", **dict(qemu.environment)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    try:
        return parse_newest_q35(done.stdout)
    except ValueError as error:
        detail = f"{error}; exit status {done.returncode}: {done.stderr.strip()[-500:]}"
        raise ProvisionError("ask QEMU for its machines", command[0], detail, "install qemu-system-x86 anew") from error


def plan_machine(
    made: Provisioned, profile: Profile, time: str, machine: str, accelerator: Choice, agent_digest: str
) -> MachineSpec:
    """The machine for a profile and a kind of time, of what was provisioned. Pure.

    With KVM all time is real, and where the profile has no other.
    """
    return MachineSpec(
        qemu_version=made.qemu.version,
        qemu_arguments=made.qemu.arguments,
        machine=machine,
        accelerator=accelerator.name,
        cpu=accelerator.cpu,
        cpus=profile.cpus,
        memory_mib=profile.memory_mib,
        time=time if accelerator.name == "tcg" and time in profile.times else "real",
        words=profile.words,
        kernel_digest=made.kernel.digest,
        initrd_digests=(made.root.digest, made.kernel.digest, made.site.digest, agent_digest),
        host_cpu=accelerator.host_cpu,
        discs=profile.discs,
    )


def describe(made: Provisioned, spec: MachineSpec) -> Mapping[str, Plain]:
    """Kernel, guest and machine as the header of the results has them. Pure."""
    kernel = made.kernel
    packages = (*made.root.packages, *made.site.packages)
    versions = dict(package.replace("==", "=", 1).split("=", 1) for package in packages)
    return {
        "kernel": {
            "name": kernel.name or kernel.series,
            "series": kernel.series,
            "release": kernel.release,
            "package": kernel.package or None,
            "build": kernel.build or None,
            "config_digest": kernel.config_digest or None,
        },
        "guest": {
            "root_digest": made.root.digest,
            "python": made.root.python,
            "observers": {name: versions[name] for name in OBSERVERS if name in versions},
        },
        "machine": {
            "qemu": ".".join(map(str, spec.qemu_version)),
            "accelerator": spec.accelerator,
            "time": spec.time,
            "cpus": spec.cpus,
        },
    }
