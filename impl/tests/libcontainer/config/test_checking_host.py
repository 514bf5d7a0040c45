"""What a host can't give is refused from facts alone, before anything is touched."""

from __future__ import annotations

import pytest

from kernelproof.impl.libcontainer.config.checking_host import check_host, refuse_host
from kernelproof.impl.libcontainer.config.problems import ConfigError
from kernelproof.impl.libcontainer.config.records import (
    Config,
    IdMapping,
    IntelRdt,
    Linux,
    Mount,
    Namespace,
    Resources,
)
from kernelproof.impl.libcontainer.config.templates import default_config
from kernelproof.impl.libcontainer.facts import Host

OLD = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
MAPPED = Mount("/d", "bind", "/s", ("bind",), (IdMapping(0, 1, 1),), (IdMapping(0, 1, 1),))


def option_of(*options: str) -> Mount:
    """A mount whose IDs an option asks to map."""
    return Mount("/d", "bind", "/s", options)


def paths(config: Config, host: Host) -> list[str]:
    """Where something is wrong."""
    return [problem.path for problem in check_host(config, host).problems]


@pytest.mark.parametrize(
    ("config", "host", "path"),
    [
        (
            Config("1.0.0", linux=Linux((Namespace("pid"), Namespace("time")))),
            Host(kinds=OLD),
            "$.linux.namespaces[1].type",
        ),
        (
            Config("1.0.0", linux=Linux(resources=Resources(unified=(("memory.max", "1"),)))),
            Host(cgroup_version=1),
            "$.linux.resources.unified",
        ),
        (Config("1.0.0", linux=Linux(intel_rdt=IntelRdt())), Host(), "$.linux.intelRdt"),
        (Config("1.0.0", mounts=(MAPPED,)), Host(capabilities=0), "$.mounts[0]"),
        (Config("1.0.0", mounts=(option_of("bind", "idmap"),)), Host(capabilities=0), "$.mounts[0]"),
        (
            Config("1.0.0", mounts=(option_of("rbind", "ridmap"),)),
            Host(capabilities=0),
            "$.mounts[0]",
        ),
    ],
    ids=["namespace", "unified", "resctrl", "idmap", "idmap-option", "ridmap-option"],
)
def test_what_is_not_here_is_refused(config: Config, host: Host, path: str) -> None:
    """One thing that the host lacks is one problem; with it, none."""
    assert paths(config, host) == [path]
    with pytest.raises(ConfigError, match="this host: "):
        refuse_host(config, host)
    if path != "$.linux.intelRdt":
        assert paths(config, Host()) == []


def test_what_spec_writes_runs_on_any_host() -> None:
    """The template asks for nothing that an old kernel with version 1 of cgroups lacks."""
    assert paths(default_config(), Host(kinds=OLD, cgroup_version=1)) == []
