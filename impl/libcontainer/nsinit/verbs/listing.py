"""list: print all containers."""

from __future__ import annotations

import sys

from kernelproof.impl.libcontainer.conditions import read_state
from kernelproof.impl.libcontainer.nsinit.options import FLAG, TEXT, Command, Given, Option
from kernelproof.impl.libcontainer.nsinit.tables import print_json, print_table
from kernelproof.impl.libcontainer.state import ContainerError, default_root, list_ids

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context

FORMAT = Option("--format -f", TEXT, "table or json", "FORMAT", choices=("table", "json"))
HEADER = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")


def run(context: Context, given: Given) -> int:
    """Prints the list; what can't be read is skipped with a warning."""
    root = context.root or default_root()
    states = []
    for identifier in list_ids(root):
        try:
            state = read_state(root, identifier)
            states.append({**state, "owner": user_name(int(str(state["owner"])))})
        except (ContainerError, OSError) as error:
            context.log.warning(f"skipped {identifier}: {error}")
    if given.flag("quiet"):
        sys.stdout.write("".join([f"{state['id']}\n" for state in states]))
    elif given.text("format", "table") == "json":
        print_json(states, None)
    else:
        print_table(HEADER, [[str(state[name.lower()]) for name in HEADER] for state in states])
    return 0


def user_name(uid: int) -> str:
    """What a user is called; the number where nobody knows a name."""
    import pwd  # few call this

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


COMMAND = Command(
    "print all containers",
    (FORMAT, Option("--quiet -q", FLAG, "only their IDs")),
    (),
    run=run,
    examples=("nsinit list", "nsinit list --format json"),
)
