"""Gets all that a machine is made of: QEMU, a kernel, the guest's user land and its Python packages.

Everything is fetched once and kept in a cache; a second call with the same wishes asks no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kernelproof.vm.cache import Cache
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.kernel import provide_kernel
from kernelproof.vm.kernel_select import read_rows, select_kernels
from kernelproof.vm.provision_context import Provisioning
from kernelproof.vm.provision_qemu import provide_qemu
from kernelproof.vm.provision_site import provide_site
from kernelproof.vm.provision_tools import provide_tools
from kernelproof.vm.provision_types import Kernel, Progress, Provisioned, Qemu, Root, Site
from kernelproof.vm.root import SUITES, provide_root

__all__ = ["Kernel", "Progress", "Provisioned", "Qemu", "Root", "Site", "provision", "select_kernels"]


def provision(
    kernel: str, packages: Sequence[str], *, cache: Cache, progress: Progress, project: Path | None
) -> Provisioned:
    """Everything that a machine with `kernel` is made of.

    Args:
        kernel: What `select_kernels` takes, if it means one series.
        packages: Debian packages of the guest beside those of every guest.
        cache: Where things are kept.
        progress: Is told what is done.
        project: The folder whose `pyproject.toml` says which Python packages the guest needs; None for our own.

    Raises:
        ProvisionError: something could not be had; it says what, and what to do about it.
    """
    series, *others = select_kernels(kernel)
    if others:
        raise ProvisionError("choose a kernel", repr(kernel), f"means {len(others) + 1} of them", "name one at a time")
    with Provisioning(cache, progress) as context:
        tools = provide_tools(context, SUITES)
        return Provisioned(
            qemu=provide_qemu(context),
            root=provide_root(context, tools, packages),
            kernel=provide_kernel(context, tools, read_rows(), series),
            site=provide_site(context, tools, project),
        )
