"""The installed command runs in an interpreter that nobody can overwrite, and is back where it was called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kernelproof.impl.libcontainer.nsinit.scripts import first

pytestmark = pytest.mark.machine(profile="runtimes")

SCRIPTS = Path(first.__file__).parent
# In place of the package: what the process is by then, and what becomes of a try to write to its interpreter.
STAND_IN = """
import os, sys
def main():
    print(os.readlink("/proc/self/exe"), os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY)
    print(os.readlink("/proc/self/ns/mnt"), os.getcwd(), os.stat("/").st_ino, *os.listdir("/proc/self/fd"))
    given = str(sys.orig_argv)
    print("leave=7" in given, "=unset" in given, os.environ.get("LC_ALL"), os.getenv("LC_ALL"))
    try:
        os.utime("/proc/self/exe")
    except OSError as error:
        print(error.strerror)
    return 0
def leave(status, packed):
    sys.exit(status)
"""


def install(prefix: Path) -> Path:
    """The command as pip leaves it, with a package that says where it is; its path."""
    packages = prefix / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    folder = packages / "kernelproof/impl/libcontainer/nsinit"
    (folder / "scripts").mkdir(parents=True)
    for parent in (folder, *list(folder.parents)[:3]):
        (parent / "__init__.py").touch()
    (folder / "main.py").write_text(STAND_IN)
    for name in ("first.py", "packed.py"):
        shutil.copy(SCRIPTS / name, folder / "scripts" / name)
    (prefix / "bin").mkdir()
    for name in ("nsinit", "nsinit-python"):
        text = (SCRIPTS / name).read_text().replace("#!python\n", f"#!{sys.executable}\n", 1)
        (prefix / "bin" / name).write_text(text)
        (prefix / "bin" / name).chmod(0o755)
    return prefix / "bin/nsinit"


def call(*command: str | Path, cwd: Path) -> list[str]:
    """Runs it, and returns its lines."""
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout.splitlines()


def test_its_interpreter_is_read_only_and_the_host_is_as_before(tmp_path: Path) -> None:
    """No mount is left in the caller's namespace, in which it is again, as it is in its root and working directory."""
    nsinit = install(tmp_path / "prefix")
    before = Path("/proc/self/mountinfo").read_text()
    exe, place, how, refused = call(nsinit, "run", "a", cwd=tmp_path)
    assert (exe, refused) == (f"{os.path.realpath(sys.executable)} 1", "Read-only file system")
    assert place.split()[:3] == [os.readlink("/proc/self/ns/mnt"), str(tmp_path), str(os.stat("/").st_ino)]
    assert how == "False False None None"
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.parametrize("value", ["", "C.UTF-8"])
def test_a_locale_of_the_callers_stays(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shell half sets for itself alone is unset again; what was set, also to nothing, is as it was."""
    nsinit = install(tmp_path / "prefix")
    monkeypatch.setenv("LC_ALL", value)
    exe, _, how, _ = call(nsinit, "run", "a", cwd=tmp_path)
    assert (exe, how) == (f"{os.path.realpath(sys.executable)} 1", f"False False {value} {value}")


@pytest.mark.parametrize(
    "front",
    [
        ("unshare", "--user", "--map-root-user"),
        ("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-all"),
        ("sh", "-c", '"$@" 9</dev/null', "sh"),
    ],
    ids=["user namespace", "without a right", "descriptor taken"],
)
def test_where_the_shell_half_can_not_python_begins_twice(front: tuple[str, ...], tmp_path: Path) -> None:
    """The interpreter is protected all the same: by the other mount, or in memory where that is refused."""
    nsinit = install(tmp_path / "prefix")
    exe, place, how, *refused = call(*front, nsinit, "create", "a", cwd=tmp_path)
    assert exe == "/ 1" or exe.startswith("/memfd:interpreter")
    assert place.split()[:2] == [os.readlink("/proc/self/ns/mnt"), str(tmp_path)]
    assert how == "False False None None"
    assert refused in (["Read-only file system"], [])


def test_where_there_is_no_way_back_it_stays_and_begins_twice(tmp_path: Path) -> None:
    """Without CAP_SYS_CHROOT; no mount is read-only then, and what is mounted there is mounted in the host too."""
    nsinit = install(tmp_path / "prefix")
    before = Path("/proc/self/mountinfo").read_text()
    chroots = ("setpriv", "--bounding-set", "-sys_chroot", "--inh-caps", "-all")
    exe, place, how, *_ = call(*chroots, nsinit, "create", "a", cwd=tmp_path)
    assert exe == "/ 1" or exe.startswith("/memfd:interpreter")
    assert place.split()[0] != os.readlink("/proc/self/ns/mnt")
    assert place.split()[1] == str(tmp_path)
    assert how == "False False None None"
    assert Path("/proc/self/mountinfo").read_text() == before


def test_a_root_that_is_no_mount_point_is_a_root_too(tmp_path: Path) -> None:
    """A directory that the caller has made its root by chroot is where the command stays, and it is protected."""
    nsinit = install(tmp_path / "prefix")
    root = tmp_path / "root"
    for place in ("/usr", "/proc", "/dev", "/etc", str(tmp_path / "prefix")):
        inside = Path(f"{root}{place}")
        inside.mkdir(parents=True)
        subprocess.run(["mount", "--rbind", place, inside], check=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        if os.path.islink(f"/{name}"):
            (root / name).symlink_to(os.readlink(f"/{name}"))
    lines = call("chroot", root, nsinit, "run", "a", cwd=tmp_path)
    assert lines[0].endswith(" 1") or lines[0].startswith("/memfd:interpreter")
    assert lines[1].split()[1:3] == ["/", str(os.stat(root).st_ino)]


def test_in_a_changed_root_it_stays_there(tmp_path: Path) -> None:
    """The root of the caller is no other afterwards: a chroot is not left."""
    nsinit = install(tmp_path / "prefix")
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["mount", "--rbind", "/", root], check=True)
    subprocess.run(["mount", "--make-rslave", root], check=True)
    script = f"cd / && {nsinit} run a && readlink /proc/$$/root"
    lines = call("chroot", root, "/bin/sh", "-c", script, cwd=tmp_path)
    assert lines[0] == f"{os.path.realpath(sys.executable)} 1"
    assert lines[1].split()[1:3] == ["/", str(os.stat(root).st_ino)]


def test_a_read_only_mount_of_ones_own_namespace_is_no_protection(tmp_path: Path) -> None:
    """Whoever has rights in that namespace could make it writable: what counts is that nobody has the mount."""
    question = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import first; print(first.is_protected())"
    asking = ("-I", "-S", "-c", question)
    mounted = 'mount -o bind,ro "$0" "$0" && exec "$0" "$@"'
    python = os.path.realpath(sys.executable)
    assert call("unshare", "-m", "sh", "-c", mounted, python, *asking, cwd=tmp_path) == ["False"]
    fd = first.open_read_only(python.encode())
    if fd < 0:
        pytest.skip("this kernel makes no mount read-only that is not attached")
    try:
        done = subprocess.run(
            (python, *asking), executable=f"/proc/self/fd/{fd}", pass_fds=[fd], capture_output=True, check=True
        )
    finally:
        os.close(fd)
    assert done.stdout == b"True\n"
