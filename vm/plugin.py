"""pytest plugin: runs marked items in machines of their own.

This module is loaded into every pytest of an environment that has kernelproof, so it only names options and hooks.
What makes machines is imported when there is an item for it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof.vm import hookspecs
from kernelproof.vm.adding_up import AddUp
from kernelproof.vm.guest.hookspecs import GuestHooks

if TYPE_CHECKING:
    from kernelproof.vm.host import Host
    from kernelproof.vm.provider import QemuProvider
    from kernelproof.vm.sessions import MachineProvider
    from kernelproof.vm.wishes import Wishes

pytest_plugins = ("kernelproof.vm.guest.fixtures",)  # listed here; they work in a machine

HOST = "kernelproof-host"  # under this name the host is registered; a plugin that brings its own machines may be first
LENDER = "kernelproof-lender"  # under this name what lends templates to workers, in the process that controls them
ADDRESS = "kernelproof_lender"  # in what an xdist controller hands to its workers
KERNELS = "kernelproof_kernels"  # likewise
FACTS = "kernelproof_facts"  # in what an xdist worker hands to its controller
_WISHES: dict[str, dict[str, Any]] = {  # as vm.wishes.read_wishes takes them
    "--kernel-image": {"metavar": "PATH", "help": "run on this kernel: a bzImage or vmlinux of your own"},
    "--modules": {"metavar": "DIR", "help": "where the modules of --kernel-image were installed"},
    "--kernel-tree": {"metavar": "DIR", "help": "run on the kernel that was built in this tree, with its modules"},
    "--guest-root": {"metavar": "PATH", "help": "a root for machines, in place of Debian's: a folder, tar or cpio"},
    "--append": {
        "metavar": "WORDS",
        "action": "append",
        "default": [],
        "help": "words for the kernel's command line; more than once adds more",
    },
    "--package": {
        "metavar": "NAME",
        "action": "append",
        "default": [],
        "help": "a Debian package for machines beside those of their profile; more than once adds more",
    },
}
_USES: dict[str, dict[str, Any]] = {  # as vm.run_options.read_run_options takes them
    "--vm-scope": {
        "choices": ("test", "class", "module", "session"),
        "default": "test",
        "help": "how long a machine is used: for one test (default), or for all of a class, a module, the session, "
        "where a test finds what those before it left",
    },
    "--vm-keep": {
        "action": "store_true",
        "help": "keep the machine of each test that fails, as it is then, for `kernelproof enter`; real time",
    },
    "--vm-repeat": {
        "metavar": "N",
        "type": int,
        "default": 1,
        "help": "run each test N times in machines that differ: entropy, pace, a delay, the number of CPUs",
    },
    "--vm-none": {
        "action": "store_true",
        "help": "no machines: run items marked 'machine' in fresh namespaces of this host, on its kernel",
    },
    "--vm-vary": {"metavar": "SEED", "type": int, "help": "run tests as the repetition of which SEED was told"},
}
NO_KERNEL = "runs in a machine, and no kernel is chosen: --kernel 6.12 or kernelproof_kernel in the ini file"


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare our hooks."""
    pluginmanager.add_hookspecs(hookspecs)
    pluginmanager.add_hookspecs(GuestHooks)  # never called here, and known: a conftest.py is read in both places


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--kernel`, `--vm-timeout`, what machines are made of, and the ini name `kernelproof_kernel`."""
    group = parser.getgroup("kernelproof", "tests in machines of their own")
    text = "run items marked 'machine' on these kernels: 6.12, 5.10,newest, all; with commas, or more than once"
    group.addoption("--kernel", metavar="KERNELS", action=AddUp, help=text)
    text = (
        "seconds after which an item's machine is given up, with all stacks in its report (default: 60); "
        "those in which it waits for a processor of a busy host do not count"
    )
    group.addoption("--vm-timeout", metavar="SECONDS", type=float, default=60.0, help=text)
    for name, settings in (*_WISHES.items(), *_USES.items()):
        group.addoption(name, **settings)
    parser.addini("kernelproof_kernel", "kernels to run on where --kernel is not given", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker; check numbers.

    Raises:
        UsageError: `--vm-timeout` is not a time, `--vm-repeat` no number of times, or a path of ours may have misled
            pytest.
    """
    text = "machine(profile='plain', time='virtual'): run this test in a machine of its own"
    config.addinivalue_line("markers", text)
    if not 0 < config.getoption("vm_timeout") < 1e6:
        raise pytest.UsageError(f"--vm-timeout {config.getoption('vm_timeout')}: more than 0 seconds, please")
    if not 0 < config.getoption("vm_repeat") < 1e6:
        raise pytest.UsageError(f"--vm-repeat {config.getoption('vm_repeat')}: once at least, please")
    if config.getoption("trace") and config.getoption("numprocesses", None):
        raise pytest.UsageError("--trace needs the terminal, which workers do not have: run with -n 0")
    _refuse_wrong_root(config)


def _refuse_wrong_root(config: pytest.Config) -> None:
    # pytest looks for the project before it knows our options, and takes a path behind one for a test's: then it finds
    # no ini file of the project, or another one.
    here, words = config.invocation_params.dir, config.invocation_params.args
    for name in ("kernel_image", "modules", "kernel_tree", "guest_root"):
        option, path = f"--{name.replace('_', '-')}", config.getoption(name)
        if option in words and not (here / path).is_relative_to(here) and config.getoption("inifilename") is None:
            raise pytest.UsageError(f"write {option}={path}: pytest looks for the project at a path behind a space")


def chosen_kernels(config: pytest.Config) -> str:
    """What the option or the ini file says, or an empty text. The ini file does not add to a kernel of one's own.

    To a worker its controller says what `all` means.
    """
    if (given := getattr(config, "workerinput", {}).get(KERNELS)) is not None:
        return str(given)
    option = config.getoption("kernel")
    if option is None and (own_kernel(config) is not None or config.getoption("vm_none")):
        return ""
    return str(config.getini("kernelproof_kernel") if option is None else option).strip()


def own_kernel(config: pytest.Config) -> str | None:
    """The path of the image or the tree of a kernel of the user's own, None if there is none."""
    option = config.getoption("kernel_image") or config.getoption("kernel_tree")
    return None if option is None else str(option)


def wants_machines(config: pytest.Config) -> bool:
    """Whether any kernel is chosen."""
    return bool(chosen_kernels(config) or own_kernel(config) or config.getoption("vm_none"))


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say which kernels are chosen; accelerator and time follow when the first machine is made."""
    none = "of this host, in fresh namespaces (no machines)" if config.getoption("vm_none") else None
    kernels = [name for name in (chosen_kernels(config), own_kernel(config), none) if name]
    return f"kernelproof: kernel {', '.join(kernels)}" if kernels else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give every marked item its kind of machine."""
    if wants_machines(config) and any(item.get_closest_marker("machine") for item in items):
        _host(config).take(items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run marked items in machines, never here."""
    if item.get_closest_marker("machine") is None:
        return None
    if wants_machines(item.config):
        _host(item.config).run(item, nextitem)
    else:
        _skip(item)
    return True


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Hand on what an xdist worker learned of its machines: only the controller owns the terminal."""
    config = getattr(node, "config", None)
    output = getattr(node, "workeroutput", None)
    if config is not None and output is not None:
        for facts in output.get(FACTS, []):
            config.hook.pytest_kernelproof_machine(config=config, facts=facts)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Let an xdist worker of this host borrow its templates."""
    if node.gateway.spec.popen and wants_machines(node.config) and not node.config.getoption("vm_none"):
        if not node.config.pluginmanager.has_plugin(LENDER):
            # Imported here for the same reason as below.
            from kernelproof.vm.controller import Controller

            node.config.pluginmanager.register(Controller(node.config, _qemu_provider(node.config)), LENDER)
        controller = node.config.pluginmanager.get_plugin(LENDER)
        node.workerinput[ADDRESS] = controller.address
        if (kernels := controller.kernels) is not None:
            node.workerinput[KERNELS] = kernels


def _host(config: pytest.Config) -> Host:
    host: Host | None = config.pluginmanager.get_plugin(HOST)
    if host is None:
        # Imported here, not above: a pytest that asks for no machine must not pay for what makes them.
        from kernelproof.vm.host import Host
        from kernelproof.vm.lending import Borrower

        address = getattr(config, "workerinput", {}).get(ADDRESS)
        host = Host(config, _provider(config), None if address is None else Borrower(address))
        config.pluginmanager.register(host, HOST)
    return host


def _provider(config: pytest.Config) -> MachineProvider:
    if not config.getoption("vm_none"):
        return _qemu_provider(config)
    # Imported here for the same reason.
    from kernelproof.vm.namespaces import NamespaceProvider

    return NamespaceProvider()


def _qemu_provider(config: pytest.Config) -> QemuProvider:
    # Imported here for the same reason.
    from kernelproof.vm.provider import QemuProvider
    from kernelproof.vm.telling import open_progress_of

    return QemuProvider(partial(_read_wishes, config), partial(open_progress_of, config))


def _read_wishes(config: pytest.Config) -> Wishes:
    # Imported here for the same reason.
    from kernelproof.vm.wishes import read_wishes

    folder = config.invocation_params.dir
    named = ("kernel_image", "modules", "kernel_tree", "guest_root")
    paths = {name: config.getoption(name) for name in named}
    image, modules, tree, root = (None if path is None else folder / path for path in paths.values())
    append, packages = config.getoption("append"), config.getoption("package")
    return read_wishes(image=image, modules=modules, tree=tree, guest_root=root, append=append, packages=packages)


def _skip(item: pytest.Item) -> None:
    path, line, _ = item.location
    report = pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome="skipped",
        longrepr=(path, (line or 0) + 1, f"Skipped: {NO_KERNEL}"),
        when="setup",
    )
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
