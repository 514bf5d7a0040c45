"""No number of Linux outside its branch: the package is driven with the termios of another system."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from kernelproof.impl.tests.term.programs import script_argv

PACKAGE = Path(__file__).parents[2] / "term"

# What FreeBSD's termios has: other numbers, other members (no IUCLC, OLCUC, VSWTC; STATUS and DSUSP besides), 20
# control characters, and speeds that are the numbers themselves.
BSD = """
import sys, types
sys.platform = "freebsd14"
t = types.ModuleType("termios")
class error(Exception): pass
t.error = error
t.TCSANOW, t.TCSADRAIN, t.TCSAFLUSH = 0, 1, 2
t.TIOCGWINSZ, t.TIOCSWINSZ, t.TIOCSCTTY = 0x40087468, 0x80087467, 0x20007461
t.TCIFLUSH, t.TCOFLUSH, t.TCIOFLUSH, t.TCOOFF, t.TCOON, t.TCIOFF, t.TCION = 1, 2, 3, 1, 2, 3, 4
names = dict(
    IGNBRK=1, BRKINT=2, IGNPAR=4, PARMRK=8, INPCK=16, ISTRIP=32, INLCR=64, IGNCR=128, ICRNL=256, IXON=512, IXOFF=1024,
    IXANY=2048, IMAXBEL=8192, IUTF8=16384,
    OPOST=1, ONLCR=2, TABDLY=4, TAB0=0, TAB3=4, ONOEOT=8, OCRNL=16, ONOCR=32, ONLRET=64,
    CIGNORE=1, CSIZE=0x300, CS5=0, CS6=0x100, CS7=0x200, CS8=0x300, CSTOPB=0x400, CREAD=0x800, PARENB=0x1000,
    PARODD=0x2000, HUPCL=0x4000, CLOCAL=0x8000,
    ECHOKE=1, ECHOE=2, ECHOK=4, ECHO=8, ECHONL=16, ECHOPRT=32, ECHOCTL=64, ISIG=128, ICANON=256, ALTWERASE=512,
    IEXTEN=1024, EXTPROC=2048, TOSTOP=0x400000, FLUSHO=0x800000, NOKERNINFO=0x2000000, PENDIN=0x20000000,
    NOFLSH=0x80000000,
    VEOF=0, VEOL=1, VEOL2=2, VERASE=3, VWERASE=4, VKILL=5, VREPRINT=6, VINTR=8, VQUIT=9, VSUSP=10, VDSUSP=11,
    VSTART=12, VSTOP=13, VLNEXT=14, VDISCARD=15, VMIN=16, VTIME=17, VSTATUS=18,
)
for name, number in names.items(): setattr(t, name, number)
codes = (4, 255, 255, 127, 23, 21, 18, 255, 3, 28, 26, 25, 17, 19, 22, 15, 1, 0, 20, 255)
characters = [bytes([each]) for each in codes]
terminal = [0x2B02, 0x3, 0x4B00, 0x5CB, 9600, 9600, characters]
def tcgetattr(fd):
    if fd != 7: raise error(25, "Inappropriate ioctl for device")
    *flags, cc = terminal
    cc = list(cc)
    if not flags[3] & t.ICANON:
        cc[t.VMIN], cc[t.VTIME] = (cc[i] if isinstance(cc[i], int) else cc[i][0] for i in (t.VMIN, t.VTIME))
    return [*flags, cc]
def tcsetattr(fd, when, attributes):
    tcgetattr(fd)
    assert len(attributes[6]) == 20 and when in (0, 1, 2)
    terminal[:] = attributes
t.tcgetattr, t.tcsetattr = tcgetattr, tcsetattr
sys.modules["termios"] = t
import fcntl, os, struct
size = [24, 80, 0, 0]
def ioctl(fd, request, argument=0):
    if request == t.TIOCGWINSZ: return struct.pack("HHHH", *size)
    assert request == t.TIOCSWINSZ, hex(request)
    size[:] = struct.unpack("HHHH", argument)
    return argument
fcntl.ioctl = ioctl
for name in ("O_PATH", "pidfd_open"): delattr(os, name) if hasattr(os, name) else None
"""


# Descriptor 7 is that terminal.
SEVEN = """
os.dup = lambda fd: 7
close = os.close
os.close = lambda fd: None if fd == 7 else close(fd)
os.get_blocking = lambda fd: True
os.set_blocking = lambda fd, flag: None
"""


def run(script: str) -> str:
    """Run a script on the other system's termios."""
    done = subprocess.run(script_argv(BSD + script), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_states_on_a_bsd() -> None:
    """Raw, cbreak and no echo clear that system's bits, blocks put back, and states print its names."""
    out = run(
        f"{SEVEN}"
        "from kernelproof.impl.term import save, raw, cbreak, no_echo, make_raw_state, is_terminal\n"
        "before = save(7)\n"
        "print(before.diff(make_raw_state(before)))\n"
        "with raw(7) as found: print(save(7) == make_raw_state(before), found == before)\n"
        "with cbreak(7): print(before.diff(save(7)))\n"
        "with no_echo(7): print(before.diff(save(7)))\n"
        "print(save(7) == before, before.character('VSTATUS'), is_terminal(7), is_terminal(3))\n"
        "print(before.names('cflag'), before.names('oflag'))\n"
    )
    assert out.splitlines() == [
        "iflag -BRKINT -ICRNL -IXON; oflag -OPOST; lflag -ECHO -ICANON -IEXTEN -ISIG",
        "True True",
        "lflag -ECHO -ICANON",
        "lflag -ECHO",
        "True 20 True False",
        "('CREAD', 'CS8', 'HUPCL') ('ONLCR', 'OPOST')",
    ]


def test_sizes_and_classic_functions_on_a_bsd() -> None:
    """Window sizes use that system's requests, and the functions of 2014 work."""
    out = run(
        "from kernelproof.impl.term import WindowSize, read_window_size, set_window_size, make_raw, restore_terminal\n"
        "set_window_size(7, WindowSize(5, 6, 7, 8)); print(*read_window_size(7))\n"
        "state = make_raw(7); restore_terminal(7, state); print(terminal[3] == 0x5CB)\n"
    )
    assert out == "5 6 7 8\nTrue\n"


def test_pairs_on_a_bsd() -> None:
    """Pairs come from openpty; an instance of devpts is refused, and everything is importable."""
    out = run(
        "import kernelproof.impl.term as term\n"
        "for name in dir(term): getattr(term, name)\n"
        "with term.PseudoterminalPair.open(term.WindowSize(3, 4)) as pair:\n"
        "    fd = pair.peer(); print(pair.name == os.ttyname(fd), size)\n"
        "try: term.PseudoterminalPair.open(devpts='/dev/pts')\n"
        "except NotImplementedError as error: print(error)\n"
    )
    assert out == "True [3, 4, 0, 0]\nonly Linux has instances of devpts\n"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_numbers_of_terminals_stand_in_the_linux_branch(path: Path) -> None:
    """No number above 16 bits, which only a request can be, stands outside linux.py."""
    numbers = [
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value > 65535
    ]
    assert bool(numbers) == (path.stem == "linux")


def test_import_is_light() -> None:
    """Importing the package loads none of its modules, and nothing of asyncio, ctypes or subprocess ever by itself."""
    script = (
        "import sys; before = set(sys.modules); import kernelproof.impl.term as term\n"
        "print(sorted(name for name in sys.modules if name.startswith('kernelproof.impl.term.')))\n"
        "term.raw, term.PseudoterminalPair, term.copy_terminal, term.Recorder, term.send_master\n"
        "print(sorted({'asyncio', 'ctypes', 'subprocess'} & (sys.modules.keys() - before)))\n"
    )
    done = subprocess.run(script_argv(script), capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n[]\n", done.stderr
    assert sys.platform
