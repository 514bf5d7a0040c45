"""What can go wrong around a machine, each error with its remedy.

VmError
├── ProvisionError      what a machine is made of could not be had
├── ChannelError        the guest broke the protocol: not trusted any further
├── GuestError          the agent could not do what it was asked to; the machine goes on
└── MachineLost         the machine is gone or answers no more; says how
"""

from __future__ import annotations


class VmError(Exception):
    """Root of all errors of `kernelproof.vm`.

    Args:
        step: What was being done, as a verb phrase: "fetch kernel".
        subject: What it was done to: a path, a package, a kernel.
        detail: What was seen: a status, a message, a size.
        remedy: What the reader can do about it, as an imperative sentence.
    """

    def __init__(self, step: str, subject: str, detail: str, remedy: str) -> None:
        super().__init__(step, subject, detail, remedy)
        self.step = step
        self.subject = subject
        self.detail = detail
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.step}: {self.subject}: {self.detail}\n  remedy: {self.remedy}"


class ProvisionError(VmError):
    """QEMU, a kernel, a guest root or a Python package could not be had."""


class ChannelError(VmError):
    """The guest sent what the protocol does not allow."""


class GuestError(VmError):
    """What the agent was asked to do raised an exception in the guest.

    Args:
        request: The kind of message that was sent.
        type: Name of the exception's class, safe to show.
        text: The guest's traceback, safe to show.
    """

    def __init__(self, request: str, type: str, text: str) -> None:
        detail = text.strip().splitlines()[-1] if text.strip() else type
        super().__init__("ask guest", request, detail, "read the guest's traceback in the error's `text`")
        self.type = type
        self.text = text


class MachineLost(VmError):
    """The machine ended or stopped answering before its work was done.

    Args:
        kind: One of `LOST_KINDS`.
        log: The end of the kernel log, already safe to show.
    """

    def __init__(self, kind: str, subject: str, detail: str, remedy: str, log: str = "") -> None:
        super().__init__(f"machine lost ({kind})", subject, detail, remedy)
        self.kind = kind
        self.log = log


LOST_KINDS = ("panic", "hang", "power-off", "reboot", "agent", "qemu", "load", "protocol")
