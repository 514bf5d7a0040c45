"""The installed command: two scripts that need neither PATH nor HOME, and start the interpreter without site."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[3] / "libcontainer/nsinit/scripts"
VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
# In place of the package: says how the interpreter was started, and with which words.
STAND_IN = """
import sys
def main():
    print("site" in sys.modules, sys.flags.isolated, "re" in sys.modules, sys.argv[1:])
    return 3
def leave(status, packed):
    sys.exit(status)
"""


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An installation as pip leaves it: the placeholder in the first line replaced by the interpreter's path."""
    folder = tmp_path / "venv/lib" / VERSION / "site-packages/kernelproof/impl/libcontainer/nsinit"
    folder.mkdir(parents=True)
    for parent in (folder, *list(folder.parents)[:3]):
        (parent / "__init__.py").touch()
    (folder / "main.py").write_text(STAND_IN)
    (folder / "scripts").mkdir()
    for name in ("first.py", "packed.py"):
        shutil.copy(SCRIPTS / name, folder / "scripts" / name)
    install(tmp_path / "venv", f"#!{sys.executable}\n")
    return tmp_path / "venv"


def install(prefix: Path, first: str) -> None:
    """Puts the scripts where an installer puts them, with a first line of its own."""
    (prefix / "bin").mkdir(exist_ok=True)
    shutil.copy(SCRIPTS / "nsinit", prefix / "bin/nsinit")
    lines = (SCRIPTS / "nsinit-python").read_text().splitlines(keepends=True)
    assert lines[0] == "#!python\n", "installers replace exactly this line"
    (prefix / "bin/nsinit-python").write_text(first + "".join(lines[1:]))
    (prefix / "bin/nsinit-python").chmod(0o755)


def call(*words: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs a command with just these variables."""
    return subprocess.run([*map(str, words)], env=env, cwd=cwd, capture_output=True, text=True, check=False)


WITHOUT_SITE = "False 1 False ['state', 'a b', '--', '*']\n"
WORDS = ("state", "a b", "--", "*")


def test_it_starts_without_site_and_without_environment(prefix: Path) -> None:
    """No variable at all is needed; words come through unchanged, and so does the exit status."""
    done = call(prefix / "bin/nsinit", *WORDS)
    assert (done.returncode, done.stdout, done.stderr) == (3, WITHOUT_SITE, "")


def test_settings_of_python_do_not_reach_it(prefix: Path, tmp_path: Path) -> None:
    """PYTHONPATH, PYTHONSTARTUP and the working directory can't put other modules in its way."""
    (tmp_path / "kernelproof.py").write_text("raise SystemExit('taken over')")
    (tmp_path / "os.py").write_text("raise SystemExit('taken over')")
    done = call(prefix / "bin/nsinit", *WORDS, cwd=tmp_path, PYTHONPATH=str(tmp_path), PYTHONHOME="/nowhere", IFS="/")
    assert (done.returncode, done.stdout) == (3, WITHOUT_SITE)


def test_it_is_found_by_links_and_by_path(prefix: Path, tmp_path: Path) -> None:
    """A symbolic link elsewhere, a look-up in PATH and `sh nsinit` beside it all lead to the same halves."""
    (tmp_path / "link").symlink_to(prefix / "bin/nsinit")
    assert call(tmp_path / "link", *WORDS).stdout == WITHOUT_SITE
    found = f"{prefix}/bin"
    assert call("/bin/sh", "-c", 'nsinit "$@"', "sh", *WORDS, PATH=found).stdout == WITHOUT_SITE
    assert call("/bin/sh", "nsinit", *WORDS, cwd=prefix / "bin").stdout == WITHOUT_SITE


def test_a_path_with_blanks_is_possible(prefix: Path, tmp_path: Path) -> None:
    """The kernel would cut the interpreter's path at a blank; the shell half does not."""
    moved = tmp_path / "with blanks"
    prefix.rename(moved)
    (moved / "bin/python here").symlink_to(sys.executable)
    install(moved, f"#!{moved}/bin/python here\n")
    assert call(moved / "bin/nsinit", *WORDS).stdout == WITHOUT_SITE


@pytest.mark.parametrize(
    "first",
    [
        "#!/usr/bin/env {python}\n",
        "#!/bin/sh\n'''exec' '{python}' \"$0\" \"$@\"\n' '''\n",
    ],
    ids=["env", "shell"],
)
def test_other_first_lines_work_more_slowly(first: str, prefix: Path) -> None:
    """Installers write other first lines for very long paths: the script is started as it stands, with site."""
    if not os.path.exists("/usr/bin/env"):
        pytest.skip("no /usr/bin/env here")
    install(prefix, first.format(python=sys.executable))
    done = call(prefix / "bin/nsinit", *WORDS, PYTHONPATH=str(prefix / "lib" / VERSION / "site-packages"))
    assert (done.returncode, done.stdout.split()[:2]) == (3, ["True", "0"])


def test_a_linked_checkout_is_found_through_site(prefix: Path, tmp_path: Path) -> None:
    """Where the package does not lie in the environment itself, site is asked, at its price."""
    site = prefix / "lib" / VERSION / "site-packages"
    (site / "kernelproof").rename(tmp_path / "kernelproof")
    (site / "linked.pth").write_text(f"{tmp_path}\n")
    (prefix / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    (prefix / "bin/python").symlink_to(Path(sys.executable).resolve())
    install(prefix, f"#!{prefix}/bin/python\n")
    done = call(prefix / "bin/nsinit", *WORDS)
    assert (done.returncode, done.stdout.split()[:2]) == (3, ["True", "1"])


def test_a_missing_half_is_said(prefix: Path) -> None:
    """Without its Python half the command fails with a word about the file."""
    (prefix / "bin/nsinit-python").unlink()
    done = call(prefix / "bin/nsinit")
    assert done.returncode != 0
    assert "nsinit-python" in done.stderr


# In place of the package: says where the command is by then, and which descriptors it has.
WHERE = """
import os, sys
from first import is_protected
def main():
    print(os.readlink("/proc/self/ns/mnt"), os.getcwd(), *os.listdir("/proc/self/fd"), sys.argv[1:], sep="\\n")
    print(is_protected(), file=sys.stderr)
    return 0
def leave(status, packed):
    sys.exit(status)
"""


def test_what_enters_containers_is_back_where_it_was_called(prefix: Path, tmp_path: Path) -> None:
    """Whatever the caller's rights: in its mount namespace and working directory, with no descriptor more."""
    scripts = prefix / "lib" / VERSION / "site-packages/kernelproof/impl/libcontainer/nsinit/scripts"
    (scripts.parent / "main.py").write_text(
        WHERE.replace("from first", f"sys.path.insert(0, {str(scripts)!r})\nfrom first")
    )
    place = tmp_path / "a place"
    place.mkdir()
    found = {
        word: call(prefix / "bin/nsinit", "--root", "/x", word, "a b", cwd=place).stdout.split("\n")
        for word in ("run", "kill")
    }
    namespace, here = found["run"][:2]
    assert (namespace, here) == (os.readlink("/proc/self/ns/mnt"), str(place))
    assert found["run"][:-2] == found["kill"][:-2]
    assert found["run"][-2] == "['--root', '/x', 'run', 'a b']"


def test_descriptors_that_come_with_the_call_are_left_alone(prefix: Path) -> None:
    """Where one of the three that the shell half would use is the caller's, it does without."""
    scripts = prefix / "lib" / VERSION / "site-packages/kernelproof/impl/libcontainer/nsinit/scripts"
    (scripts.parent / "main.py").write_text(
        WHERE.replace("from first", f"sys.path.insert(0, {str(scripts)!r})\nfrom first")
    )
    done = call("/bin/sh", "-c", '"$@" 8</dev/null', "sh", prefix / "bin/nsinit", "run")
    assert "8" in done.stdout.split("\n")[2:-2]


def test_the_environment_is_the_callers(prefix: Path) -> None:
    """Variables with names that a shell script might use for itself come through as they are: hooks get them."""
    main = prefix / "lib" / VERSION / "site-packages/kernelproof/impl/libcontainer/nsinit/main.py"
    main.write_text(STAND_IN.replace("print(", "import os; print(dict(os.environ)) #"))
    names = ("self", "half", "line", "python", "name", "value", "word", "first", "rest", "point", "source")
    given = {name: f"the caller's {name}" for name in names}
    for word in ("run", "state"):
        done = call(prefix / "bin/nsinit", word, cwd=None, **given)
        assert given.items() <= dict(ast.literal_eval(done.stdout)).items(), done.stderr
