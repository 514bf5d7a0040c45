"""Who may log in, by PAM on the lines that impl reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.user import lookup_user, read_shadow, resolve_user

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.users.conftest import AddLines, RunCommand


@pytest.fixture
def use_pam() -> Callable[[str], None]:
    """Let su of root ask these modules for the account, and nothing else."""

    def use(account: str) -> None:
        lines = f"auth sufficient pam_rootok.so\n{account}\nsession required pam_permit.so\n"
        for service in ("su", "other"):  # PAM refuses all if it cannot read the second
            Path("/etc/pam.d", service).write_text(lines)

    return use


@behaviour("user.passwd.password-x")
def test_hash_that_is_in_shadow(
    add_lines: AddLines, run: RunCommand, use_pam: Callable[[str], None], seen: Seen
) -> None:
    """A password x says that the hash is in shadow; without a line there the account is not valid, with one it is."""
    use_pam("account required pam_unix.so")
    add_lines(passwd="ada:x:4001:4002::/:/bin/sh\n", group="ada:x:4002:\n")
    views = []
    for line in ("", "ada:*:20000:0:99999:7:::\n"):
        add_lines(shadow=line)
        has_line = any(entry.name == "ada" for entry in read_shadow())
        views.append([lookup_user("ada").password, has_line, run("su", "ada", "-c", "id -u").out])
    assert seen(views) == [["x", False, ""], ["x", True, "4001\n"]]


@behaviour("user.login.etc-nologin-root")
def test_only_root_while_nologin_is_there(
    add_lines: AddLines, run: RunCommand, use_pam: Callable[[str], None], seen: Seen
) -> None:
    """While /etc/nologin is there pam_nologin lets root in and nobody else."""
    use_pam("account requisite pam_nologin.so\naccount required pam_permit.so")
    add_lines(passwd="ada:x:4001:4002::/:/bin/sh\n", shadow="ada:*:20000:0:99999:7:::\n", group="ada:x:4002:\n")
    uids = {name: str(resolve_user(name).uid) for name in ("ada", "root")}
    before = [run("su", name, "-c", "id -u").out.split()[-1:] for name in uids]
    add_lines(nologin="closed\n")
    after = [run("su", name, "-c", "id -u") for name in uids]
    assert before == [["4001"], ["0"]] == [[uid] for uid in uids.values()]
    assert seen([done.status == 0 for done in after]) == [False, True]
