"""Which kernels of a table can be had: suites move on, and take their kernels with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kernelproof.vm.cache import Cache
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.kernel import provide_kernel
from kernelproof.vm.kernel_select import read_rows
from kernelproof.vm.provision_context import Provisioning
from kernelproof.vm.provision_tools import provide_tools
from kernelproof.vm.provision_types import Progress


class Available(NamedTuple):
    """What there is.

    Args:
        kernels: The series that are in the cache now.
        left_out: The others, each with the reason.
    """

    kernels: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]


def find_available(series: Sequence[str], cache: Cache, progress: Progress) -> Available:
    """Fetch what is missing of these kernels; those that can't be had are left out.

    Raises:
        ProvisionError: none of them can be had, or nothing at all can be fetched.
    """
    found: list[str] = []
    left_out: list[tuple[str, str]] = []
    with Provisioning(cache, progress) as context:
        tools = provide_tools(context, context.suites)
        for name in series:
            try:
                provide_kernel(context, tools, read_rows(), name)
            except ProvisionError as error:
                left_out.append((name, error.detail))
            else:
                found.append(name)
    if not found:
        detail = "; ".join(f"{name}: {reason}" for name, reason in left_out)
        raise ProvisionError("choose kernels", "all", detail, "look at the network, or try a fuller mirror")
    return Available(tuple(found), tuple(left_out))
