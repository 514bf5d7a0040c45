"""Containers: a root filesystem and a configuration become a process of its own kind; this library does the rest.

    config       what is asked: the OCI configuration and its forerunner of 2014, read, checked, written
    plan         from a configuration and facts of the host to ordered operations; nothing is touched
    operations   what an operation is, and how a failing one is told
    rootfs, security, network, process
                 the operations themselves, by what they change, and how processes are started for them
    state, locking, lifecycle, ending, conditions, running, hooks, events
                 a container between one command and the next
    attesting, reporting
                 what runs compared with what was asked; what this host can do
    container, children
                 all of it for Python programs with threads; their processes
    foreground   a process that is attended to its end
    nsinit       the command line

This is not an engine: it fetches no images and keeps no network of its own.

A name is looked up when it is first used, so that a program pays for the modules it needs.
"""

TYPE_CHECKING = False  # what type checkers take for true; typing itself would cost 6 ms at every import
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.attesting import Finding as Finding
    from kernelproof.impl.libcontainer.attesting import verify as verify
    from kernelproof.impl.libcontainer.conditions import read_state as read_state
    from kernelproof.impl.libcontainer.config.problems import ConfigError as ConfigError
    from kernelproof.impl.libcontainer.config.problems import Problem as Problem
    from kernelproof.impl.libcontainer.config.reading import load_config as load_config
    from kernelproof.impl.libcontainer.config.reading import parse_config as parse_config
    from kernelproof.impl.libcontainer.config.records import Config as Config
    from kernelproof.impl.libcontainer.config.records import Hook as Hook
    from kernelproof.impl.libcontainer.config.records import Hooks as Hooks
    from kernelproof.impl.libcontainer.config.records import IdMapping as IdMapping
    from kernelproof.impl.libcontainer.config.records import Linux as Linux
    from kernelproof.impl.libcontainer.config.records import Mount as Mount
    from kernelproof.impl.libcontainer.config.records import Namespace as Namespace
    from kernelproof.impl.libcontainer.config.records import Process as Process
    from kernelproof.impl.libcontainer.config.records import Resources as Resources
    from kernelproof.impl.libcontainer.config.records import Root as Root
    from kernelproof.impl.libcontainer.config.records import User as User
    from kernelproof.impl.libcontainer.container import NOTHING as NOTHING
    from kernelproof.impl.libcontainer.container import PIPE as PIPE
    from kernelproof.impl.libcontainer.container import Container as Container
    from kernelproof.impl.libcontainer.container import Running as Running
    from kernelproof.impl.libcontainer.container import Runtime as Runtime
    from kernelproof.impl.libcontainer.ending import delete as delete
    from kernelproof.impl.libcontainer.ending import kill as kill
    from kernelproof.impl.libcontainer.facts import Host as Host
    from kernelproof.impl.libcontainer.facts import read_host as read_host
    from kernelproof.impl.libcontainer.lifecycle import create as create
    from kernelproof.impl.libcontainer.lifecycle import pause as pause
    from kernelproof.impl.libcontainer.lifecycle import resume as resume
    from kernelproof.impl.libcontainer.lifecycle import run as run
    from kernelproof.impl.libcontainer.lifecycle import start as start
    from kernelproof.impl.libcontainer.operations import Operation as Operation
    from kernelproof.impl.libcontainer.operations import Site as Site
    from kernelproof.impl.libcontainer.operations import StartError as StartError
    from kernelproof.impl.libcontainer.plan import Request as Request
    from kernelproof.impl.libcontainer.plan import describe as describe
    from kernelproof.impl.libcontainer.plan import plan_container as plan_container
    from kernelproof.impl.libcontainer.reporting import Ability as Ability
    from kernelproof.impl.libcontainer.reporting import capabilities_report as capabilities_report
    from kernelproof.impl.libcontainer.reporting import granted as granted
    from kernelproof.impl.libcontainer.running import execute as execute
    from kernelproof.impl.libcontainer.running import stored_config as stored_config
    from kernelproof.impl.libcontainer.security.explain import Reason as Reason
    from kernelproof.impl.libcontainer.security.explain import explain_call as explain_call
    from kernelproof.impl.libcontainer.security.explain import explain_path as explain_path
    from kernelproof.impl.libcontainer.security.explain import explain_port as explain_port
    from kernelproof.impl.libcontainer.security.landlock import LandlockError as LandlockError
    from kernelproof.impl.libcontainer.state import ContainerError as ContainerError
    from kernelproof.impl.libcontainer.state import ContainerExistsError as ContainerExistsError
    from kernelproof.impl.libcontainer.state import InvalidIdError as InvalidIdError
    from kernelproof.impl.libcontainer.state import NoSuchContainerError as NoSuchContainerError
    from kernelproof.impl.libcontainer.state import StateError as StateError
    from kernelproof.impl.libcontainer.state import WrongStatusError as WrongStatusError

# Module below this package -> what it gives.
_HOMES = {
    "attesting": "Finding verify",
    "config.problems": "ConfigError Problem",
    "config.reading": "load_config parse_config",
    "config.records": "Config Hook Hooks IdMapping Linux Mount Namespace Process Resources Root User",
    "conditions": "read_state",
    "container": "Container NOTHING PIPE Running Runtime",
    "ending": "delete kill",
    "facts": "Host read_host",
    "lifecycle": "create pause resume run start",
    "operations": "Operation Site StartError",
    "plan": "Request describe plan_container",
    "reporting": "Ability capabilities_report granted",
    "running": "execute stored_config",
    "security.explain": "Reason explain_call explain_path explain_port",
    "security.landlock": "LandlockError",
    "state": "ContainerError ContainerExistsError InvalidIdError NoSuchContainerError StateError WrongStatusError",
}


def __getattr__(name: str) -> object:
    module = next((module for module, names in _HOMES.items() if name in names.split()), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # measured: 0.6 ms, which a command that lives for 20 must not pay

    value: object = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value  # the next look-up is a plain one
    return value


def __dir__() -> list[str]:
    return sorted(name for names in _HOMES.values() for name in names.split())
