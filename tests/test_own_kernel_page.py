"""The guide's page about a kernel of one's own says what the program asks for."""

from __future__ import annotations

import re
from pathlib import Path

from kernelproof.vm.kernel_options import judge_options, parse_config, read_wanted
from kernelproof.vm.plugin import _WISHES

PAGE = Path(__file__).resolve().parent.parent / "docs/own-kernel.md"


def test_fragment_has_all_that_is_wanted() -> None:
    """A kernel with the fragment of the guide lacks nothing that is needed or advised."""
    fragment = re.search(r"```config\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert fragment is not None
    options = dict(parse_config(fragment[1]))
    options["NO_HZ_COMMON"] = options["NO_HZ_IDLE"]  # selected by it, as Kconfig says
    lacking = [verdict for verdict in judge_options(options, None, read_wanted()) if verdict.problem]
    assert lacking == []


def test_options_are_real() -> None:
    """The page names the options that pytest has, and no others."""
    named = set(re.findall(r"(--(?:kernel-|guest-)?[a-z]+)\b", PAGE.read_text("utf-8")))
    assert set(_WISHES) <= named
    assert named <= {*_WISHES, "--kernel"}
