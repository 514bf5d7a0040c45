"""Gets all that a machine is made of: QEMU, a kernel, the guest's user land and its Python packages.

Everything is fetched once and kept in a cache; a second call with the same wishes asks no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shutil import which

from kernelproof.vm.cache import Cache
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.kernel import provide_kernel
from kernelproof.vm.kernel_select import read_rows, select_kernels
from kernelproof.vm.own_kernel import OwnKernel, provide_own_kernel
from kernelproof.vm.own_root import provide_own_root
from kernelproof.vm.provision_context import Provisioning
from kernelproof.vm.provision_qemu import provide_qemu
from kernelproof.vm.provision_site import provide_site
from kernelproof.vm.provision_tools import Tools, find_host_tools, provide_tools
from kernelproof.vm.provision_types import Kernel, Progress, Provisioned, Qemu, Root, Site
from kernelproof.vm.root import provide_root
from kernelproof.vm.wishes import NO_WISHES, Wishes

__all__ = ["Kernel", "Progress", "Provisioned", "Qemu", "Root", "Site", "provision", "select_kernels"]


def provision(
    kernel: str,
    packages: Sequence[str],
    *,
    cache: Cache,
    progress: Progress,
    project: Path | None,
    wishes: Wishes = NO_WISHES,
) -> Provisioned:
    """Everything that a machine with `kernel` is made of.

    Args:
        kernel: What `select_kernels` takes, if it means one series; or the name of the wishes' own kernel.
        packages: Debian packages of the guest beside those of every guest.
        cache: Where things are kept.
        progress: Is told what is done.
        project: The folder whose `pyproject.toml` says which Python packages the guest needs; None for our own.
        wishes: What the user wants beside these.

    Raises:
        ProvisionError: something could not be had; it says what, and what to do about it.
    """
    with Provisioning(cache, progress) as context:
        if wishes.guest_root is not None:
            root = provide_own_root(context, wishes.guest_root)
            tools = find_host_tools() if which("apt-get") is None else provide_tools(context, context.suites)
        else:
            tools = provide_tools(context, context.suites)
            root = provide_root(context, tools, [*packages, *wishes.packages])
        return Provisioned(
            qemu=provide_qemu(context),
            root=root,
            kernel=_provide_kernel(context, tools, kernel, wishes.kernel),
            site=provide_site(context, tools, project, root.python),
        )


def _provide_kernel(context: Provisioning, tools: Tools, kernel: str, own: OwnKernel | None) -> Kernel:
    if own is not None and kernel == own.name:
        return provide_own_kernel(context, tools, own)
    series, *others = select_kernels(kernel)
    if others:
        raise ProvisionError("choose a kernel", repr(kernel), f"means {len(others) + 1} of them", "name one at a time")
    return provide_kernel(context, tools, read_rows(), series)
