"""What pigeonhole relies on, each test a sentence of behaviours/*.toml."""

import socket
from pathlib import Path

from pigeonhole import cry, open_hole, put, widen

from kernelproof import behaviour

LIMIT = Path("/proc/sys/net/core/rmem_max")


def names() -> list[str]:
    """The abstract names that the kernel lists: an observer that is not our library."""
    last = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()]
    return [word.removeprefix("@") for word in last if word.startswith("@")]


def buffer_of(hole: socket.socket) -> int:
    return hole.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


@behaviour("unix.datagram.boundaries")
def test_messages_come_whole_and_in_order(seen):
    """Three messages of different sizes, one of them empty, are received as they were sent."""
    with open_hole("post") as hole:
        for message in (b"a", b"", b"ccc"):
            put("post", message)
        assert seen([hole.recv(100).decode() for _ in range(3)]) == ["a", "", "ccc"]


@behaviour("unix.abstract.name-is-free-again")
def test_name_goes_with_its_last_descriptor(seen):
    """A name is there while a duplicate of the descriptor is open, and gone afterwards."""
    hole = open_hole("post")
    duplicate = hole.dup()
    hole.close()
    before = "post" in names()
    duplicate.close()
    assert seen([before, "post" in names()]) == [True, False]
    open_hole("post").close()


@behaviour("unix.buffer.doubled")
def test_buffer_is_twice_what_was_asked(seen):
    """A buffer of 10,000 bytes is read back as one of 20,000."""
    with open_hole("post") as hole:
        widen(hole, 10_000)
        assert seen(buffer_of(hole)) == 20_000


@behaviour("unix.buffer.beyond-the-limit")
def test_force_goes_beyond_the_limit(seen):
    """Twice the limit is cut to the limit, and is not with force."""
    limit = int(LIMIT.read_text())
    with open_hole("post") as hole:
        widen(hole, 2 * limit)
        cut = buffer_of(hole) == 2 * limit
        widen(hole, 2 * limit, force=True)
        assert seen([cut, buffer_of(hole) == 4 * limit]) == [True, True]


@behaviour("unix.stream.no-out-of-band")
def test_no_byte_passes_the_others(seen):
    """A byte out of band is refused."""
    sender, receiver = socket.socketpair()
    with sender, receiver:
        assert seen.errno_of(cry, sender, b"!") == "ENOTSUP"  # the same number, and Python's name for it
