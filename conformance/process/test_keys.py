"""Session keyrings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.impl._syscalls.execution import execve
from kernelproof.impl._syscalls.keyring import POSSESSOR_ALL, SESSION_KEYRING, join_session_keyring, set_permissions
from kernelproof.impl._syscalls.keys import add_key, keyring_id, revoke_key

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Companion, InChild, OutputOf
    from kernelproof.conformance.seen import Seen

NO_KEY = 0x7FFFFFF0


def lists(text: str) -> bool:
    """Whether a listing of keys has the one of these tests, which only its possessors see."""
    return any(" kernelproof: " in line for line in text.splitlines())


@behaviour("process.keys.session-inherited")
def test_keyring_of_children_and_programs(
    in_child: InChild, companion: Companion, output_of: OutputOf, seen: Seen
) -> None:
    """A child and a program possess what is in the session keyring; others do not."""

    def act() -> list[Any]:
        joined = join_session_keyring(None)
        set_permissions(add_key("kernelproof", b"x", SESSION_KEYRING), POSSESSOR_ALL)
        child = companion(lambda talk: talk.say([keyring_id(SESSION_KEYRING) == joined, sees()])).hear()
        return [*child, lists(output_of(lambda: execve("/bin/cat", ["cat", "/proc/keys"])))]

    def sees() -> bool:
        return lists(Path("/proc/keys").read_text())

    assert seen([*in_child(act), in_child(sees)]) == [True, True, True, False]


@behaviour("process.keys.join-new")
def test_new_keyring(in_child: InChild, seen: Seen) -> None:
    """Joining without a name gives a new keyring without one."""

    def join() -> list[Any]:
        ids = [join_session_keyring(None) for _ in range(2)]
        same = keyring_id(SESSION_KEYRING) == ids[1]
        (line,) = (line for line in Path("/proc/keys").read_text().splitlines() if int(line.split()[0], 16) == ids[1])
        return [ids[0] != ids[1], same, line.split()[7:9]]

    assert seen(in_child(join)) == [True, True, ["keyring", "_ses:"]]


@behaviour("process.keys.invalid-serial")
def test_key_that_does_not_exist(seen: Seen) -> None:
    """A number that no key has gives ENOKEY."""
    assert f"{NO_KEY:08x} " not in Path("/proc/keys").read_text()
    answers = [seen.errno_of(revoke_key, NO_KEY), seen.errno_of(keyring_id, NO_KEY)]
    assert seen(answers) == ["ENOKEY", "ENOKEY"]
