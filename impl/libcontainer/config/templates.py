"""Configurations to begin with: what `nsinit spec` writes, and the smallest one for programs.

Source: OCI runtime specification 1.3, config-linux.md, "Default Filesystems"; runc-spec(8).
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.config.records import (
    Capabilities,
    Config,
    DeviceRule,
    IdMapping,
    Linux,
    Mount,
    Namespace,
    Process,
    Resources,
    Rlimit,
    Root,
)

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = "1.3.0"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_KEPT = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
CAPABILITIES = Capabilities(bounding=_KEPT, effective=_KEPT, permitted=_KEPT)

PROC = Mount("/proc", "proc", "proc")
DEV = Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k"))
PTS = Mount("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"))
SHM = Mount("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", "size=65536k"))
MQUEUE = Mount("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev"))
SYS = Mount("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro"))
CGROUP = Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid", "noexec", "nodev", "relatime", "ro"))
# sysfs needs a network namespace that belongs to the user namespace; without it the host's tree is shown.
HOST_SYS = Mount("/sys", "none", "/sys", ("rbind", "nosuid", "noexec", "nodev", "ro"))

MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap"),
    "/sys/firmware",
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
NAMESPACES = tuple([Namespace(kind) for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")])


def default_config() -> Config:
    """What `spec` writes: a shell at a terminal, in `rootfs`, which is read-only."""
    return Config(
        VERSION,
        Root("rootfs", readonly=True),
        Process(
            cwd="/",
            args=("sh",),
            env=(PATH, "TERM=xterm"),
            terminal=True,
            capabilities=CAPABILITIES,
            rlimits=(Rlimit("RLIMIT_NOFILE", hard=1024, soft=1024),),
            no_new_privileges=True,
        ),
        hostname="nsinit",
        mounts=(PROC, DEV, PTS, SHM, MQUEUE, SYS, CGROUP),
        linux=Linux(
            NAMESPACES,
            resources=Resources(devices=(DeviceRule(allow=False, access="rwm"),)),
            masked_paths=MASKED,
            readonly_paths=READ_ONLY,
        ),
    )


def rootless_config(uid: int, gid: int) -> Config:
    """What `spec --rootless` writes: the caller's IDs are root inside; nothing that only the host's root may do."""
    config = default_config()
    pts = PTS.replace(options=tuple([option for option in PTS.options if not option.startswith("gid=")]))
    kinds = tuple([namespace for namespace in NAMESPACES if namespace.type != "network"])
    return config.replace(
        mounts=(PROC, DEV, pts, SHM, MQUEUE, HOST_SYS),
        linux=config.linux.replace(
            namespaces=(*kinds, Namespace("user")),
            uid_mappings=(IdMapping(container_id=0, host_id=uid, size=1),),
            gid_mappings=(IdMapping(container_id=0, host_id=gid, size=1),),
            resources=None,
        ),
    )


def minimal(rootfs: str, args: Sequence[str], **process: object) -> Config:
    """As `Config.minimal`."""
    config = default_config()
    started = Process("/", tuple(args), (PATH,), capabilities=CAPABILITIES, no_new_privileges=True).replace(**process)
    return config.replace(root=Root(rootfs), process=started, hostname=None, mounts=(PROC, DEV, PTS, SHM, MQUEUE, SYS))
