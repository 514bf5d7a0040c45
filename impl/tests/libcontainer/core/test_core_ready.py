"""Which configurations can be made into containers before these have a name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kernelproof.impl.libcontainer import Config, Hook, Hooks, Linux, Mount, Namespace, Process, Root, Runtime
from kernelproof.impl.libcontainer.config.own import Network, Route
from kernelproof.impl.libcontainer.config.records import NetDevice, Seccomp
from kernelproof.impl.libcontainer.ready import find_places, find_reason

CONFIG = Config("1.3.0", Root("rootfs"), Process("/", ("true",)), linux=Linux((Namespace("pid"),)))
PROC = Mount("/proc", "proc", "proc")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (CONFIG, ""),
        (CONFIG.replace(mounts=(PROC, Mount("/data", None, "data", ("rbind", "ro")))), ""),
        (CONFIG.replace(process=None), "no process"),
        (CONFIG.replace(process=Process("/", ("sh",), terminal=True)), "terminal"),
        (CONFIG.replace(hooks=Hooks(poststop=(Hook("/bin/true"),))), "hooks"),
        (CONFIG.replace(linux=Linux(cgroups_path="/web")), "cgroupsPath"),
        (CONFIG.replace(linux=Linux((Namespace("network", "/run/netns/one"),))), "namespaces of a path"),
        (CONFIG.replace(linux=Linux(net_devices=(("eth1", NetDevice()),))), "netDevices"),
        (CONFIG.replace(networks=(Network("loopback"),)), "networks"),
        (CONFIG.replace(routes=(Route(gateway="10.0.0.1"),)), "networks"),
        (CONFIG.replace(linux=Linux(seccomp=Seccomp("SCMP_ACT_NOTIFY", listener_path="/run/agent"))), "listenerPath"),
        (CONFIG.replace(mounts=(PROC, Mount("/etc", "tmpfs", "tmpfs", ("tmpcopyup",)))), "tmpcopyup"),
        (CONFIG.replace(mounts=(PROC, Mount("/data", "overlay", "overlay", ("lowerdir=/one",)))), "mount of this type"),
    ],
)
def test_reasons(config: Config, reason: str) -> None:
    """What depends on a name, or may be something else by then, is refused with the reason."""
    assert (reason in find_reason(config)) if reason else not find_reason(config)


def test_refused_before_anything_is_begun(tmp_path: Path) -> None:
    """No helper is spawned for what can't be kept ready, nor for a number that is none."""
    with Runtime(tmp_path / "states") as runtime:
        with pytest.raises(ValueError, match=r"^no container of this configuration can be kept ready: hooks are told"):
            runtime.prepare(CONFIG.replace(hooks=Hooks(poststop=(Hook("/bin/true"),))))
        with pytest.raises(ValueError, match="-1 containers can't be kept ready"):
            runtime.prepare(CONFIG, count=-1)
        runtime.prepare(CONFIG, count=0)
        with pytest.raises(ValueError, match="can't be kept ready"):
            asyncio.run(runtime.prepare_async(CONFIG, bundle=tmp_path, count=-2))
    assert not (tmp_path / "states").exists()


def test_places() -> None:
    """The root and the sources of binds count from the bundle; other mounts have none."""
    mounts = (PROC, Mount("/data", None, "data", ("rbind",)), Mount("/etc/hosts", "bind", "/etc/hosts"))
    assert find_places(CONFIG.replace(mounts=mounts), "/b") == ("/b/rootfs", "/b/data", "/etc/hosts")
