"""Scopes of systemd, planned without systemd: names, and what takes the place of the cgroup's operations."""

from __future__ import annotations

import pytest

from kernelproof.impl.libcontainer import Host, Request, plan_container
from kernelproof.impl.libcontainer.config.records import Config, Memory, Resources
from kernelproof.impl.libcontainer.scopes import EnterScope, SetScopeLimits, scope_name


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (None, ("system.slice", "nsinit-box.scope")),
        ("work-web.slice:web:a", ("work-web.slice", "web-a.scope")),
        ("::a", ("system.slice", "a.scope")),
    ],
)
def test_names(path: str | None, names: tuple[str, str]) -> None:
    """cgroupsPath is slice:prefix:name, each but the last with a default."""
    assert scope_name(path, "box", is_user=False) == names


@pytest.mark.parametrize("path", ["", "/a/b", "a.slice:b", "a:b:c", "a--b.slice:x:y", "a.slice:x:", "a.slice:x:/"])
def test_what_is_no_name(path: str) -> None:
    """Another form, a slice that is none and a name that no unit can have are refused before anything is touched."""
    with pytest.raises(ValueError, match=r"slice:prefix:name|unit name|slice"):
        scope_name(path, "box", is_user=False)


def test_the_plan() -> None:
    """With systemd no cgroup is made before the process, and the limits go to both; disabled, there is neither."""
    config = Config.minimal("rootfs", ["true"])
    config = config.replace(linux=config.linux.replace(resources=Resources(memory=Memory(limit=1 << 20))))

    def kinds(manager: str) -> list[str]:
        plan = plan_container(config, Host(), Request("box", "/b", cgroup_manager=manager))
        return [type(one).__name__ for one in plan if "group" in type(one).__name__ or "Limits" in type(one).__name__
                or "Scope" in type(one).__name__]  # fmt: skip

    assert kinds("cgroupfs") == ["MakeCgroup", "EnterCgroup", "SetLimits"]
    assert kinds("systemd") == [EnterScope.__name__, SetScopeLimits.__name__]
    assert kinds("disabled") == []
