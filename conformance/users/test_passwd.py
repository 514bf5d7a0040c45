"""The C library's look-ups in /etc/passwd."""

from __future__ import annotations

import pwd
import subprocess
from pathlib import Path

from kernelproof import behaviour

PASSWD = Path("/etc/passwd")


@behaviour("user.passwd.first-of-duplicates", subject="stand-in")
def test_first_of_two_lines_counts() -> None:
    """Of two lines with one name or one uid a look-up returns the first, and enumeration returns both."""
    lines = (
        "twin:x:4001:4001:first:/first:/bin/sh\n"
        "twin:x:4002:4002:second:/second:/bin/sh\n"
        "other:x:4001:4003:third:/third:/bin/sh\n"
    )
    with PASSWD.open("a") as passwd:
        passwd.write(lines)

    found = subprocess.run(["getent", "passwd", "twin", "4001"], check=True, stdout=subprocess.PIPE, timeout=30)
    assert found.stdout.decode().splitlines() == [lines.splitlines()[0]] * 2
    enumerated = [(entry.pw_name, entry.pw_uid, entry.pw_dir) for entry in pwd.getpwall() if 4000 < entry.pw_uid < 5000]
    assert enumerated == [("twin", 4001, "/first"), ("twin", 4002, "/second"), ("other", 4001, "/third")]
