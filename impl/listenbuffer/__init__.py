"""Open the door at once, answer when ready: listeners whose queue fills while a program starts or is replaced.

    listener = listen("tcp://127.0.0.1:8080")
    load_everything()                    # clients connect meanwhile and wait
    listener.activate()
    connection, peer = listener.accept()

A service manager knows this as socket activation; `inherit` takes its sockets, `Generations` hands ours to the next
generation of a program, without one refused or lost connection.

Layers, lower ones first: errors, address, gate, wake, backlog, doorman, socketfile; gated, listener; listening;
inherit, notify, messages; probes, elders, generations, handover; holder.
"""

from kernelproof.impl.listenbuffer.address import Address, parse_address
from kernelproof.impl.listenbuffer.backlog import Queue
from kernelproof.impl.listenbuffer.errors import (
    ActivationTimeout,
    AlreadyActive,
    GateClosed,
    HandOverFailed,
    HandOverRefused,
    InvalidAddress,
    ListenBufferError,
    WrongDescriptor,
)
from kernelproof.impl.listenbuffer.gate import Gate
from kernelproof.impl.listenbuffer.listener import GatedListener
from kernelproof.impl.listenbuffer.listening import listen, listen_buffer, new_listen_buffer

ListenBuffer = GatedListener

__all__ = [
    "ActivationTimeout",
    "Address",
    "AlreadyActive",
    "Gate",
    "GateClosed",
    "GatedListener",
    "HandOverFailed",
    "HandOverRefused",
    "InvalidAddress",
    "ListenBuffer",
    "ListenBufferError",
    "Queue",
    "WrongDescriptor",
    "listen",
    "listen_buffer",
    "new_listen_buffer",
    "parse_address",
]
