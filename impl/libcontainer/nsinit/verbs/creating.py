"""create: make a container; its process waits for start."""

from __future__ import annotations

from kernelproof.impl.libcontainer.lifecycle import create
from kernelproof.impl.libcontainer.nsinit.options import Command, Given
from kernelproof.impl.libcontainer.nsinit.verbs.bundles import (
    OPTIONS,
    copy_of,
    flush,
    load,
    make_request,
    root_of,
    send_pidfd,
    tracer,
)

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context


def run(context: Context, given: Given) -> int:
    """Makes the container."""
    loaded = load(context, given)
    request = make_request(context, given, loaded, waits=True)
    flush()
    started = create(
        root_of(context),
        loaded.config,
        request,
        config_text=copy_of(loaded),
        pid_file=given.text("pid-file"),
        prepare=tracer(context),
    )
    send_pidfd(given.text("pidfd-socket"), started.pidfd)
    return 0


COMMAND = Command(
    "make a container from a bundle; its process waits for start",
    OPTIONS,
    ("ID",),
    run=run,
    details="Everything is set up and the program is looked up, but not one instruction of it is run before start. If "
    "anything fails, nothing is left behind.",
    examples=("nsinit create --bundle /srv/web --pid-file /run/web.pid web",),
)
