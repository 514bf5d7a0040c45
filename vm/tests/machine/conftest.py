"""One template for all tests of this folder that drive machines from the host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernelproof.vm.machine import Machine
from kernelproof.vm.snapshot import SessionTemplate
from kernelproof.vm.template import Template


@pytest.fixture(scope="session")
def template() -> Iterator[Template]:
    with Template("6.12") as template:
        yield template


@pytest.fixture(scope="session")
def prepared(template: Template) -> Iterator[SessionTemplate]:
    """A session template whose preparation left a mark."""

    def prepare(machine: Machine) -> str:
        machine.push(b"prepared\n", "/srv/mark")
        return machine.run(["cat", "/srv/mark"]).stdout

    session, answer = template.session(prepare)
    assert answer == "prepared\n"
    yield session
    session.close()


@pytest.fixture
def machine(template: Template) -> Iterator[Machine]:
    with template.clone() as machine:
        yield machine
