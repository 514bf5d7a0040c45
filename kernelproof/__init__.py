"""Documented Linux behaviour, checked on real kernels, one fresh virtual machine a test.

Nothing is imported before it is used: `kernelproof.behaviour`, `kernelproof.behaviour_row`,
`kernelproof.snapshot_fixture`, `kernelproof.Template` and `kernelproof.Machine` are looked up on first access. The
packages live in `kernelproof.impl`.
"""

TYPE_CHECKING = False  # what type checkers take for true; typing itself would cost 6 ms at every import
if TYPE_CHECKING:
    from kernelproof.conformance.plugin import behaviour, behaviour_row
    from kernelproof.vm.guest.snapshot_fixtures import snapshot_fixture
    from kernelproof.vm.machine import Machine
    from kernelproof.vm.template import Template

__version__ = "0.1.0"

__all__ = ["Machine", "Template", "__version__", "behaviour", "behaviour_row", "snapshot_fixture"]

_HOMES = {
    "Machine": "kernelproof.vm.machine",
    "Template": "kernelproof.vm.template",
    "behaviour": "kernelproof.conformance.plugin",
    "behaviour_row": "kernelproof.conformance.plugin",
    "snapshot_fixture": "kernelproof.vm.guest.snapshot_fixtures",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # measured: 0.6 ms, which a command that lives for 20 must not pay

    return getattr(import_module(home), name)
