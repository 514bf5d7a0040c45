"""What machines are made of beside a kernel of the table: options of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.kernel_image import Banner
from kernelproof.vm.own_kernel import OwnKernel
from kernelproof.vm.provider import QemuProvider
from kernelproof.vm.tests.provision.images import make_bzimage
from kernelproof.vm.wishes import Wishes

OWN = OwnKernel(Path("/k"), None, False, None, Banner("6.13.0-rc1", "#1"))
TEST = """
    import pytest
    @pytest.mark.machine
    def test_there(): pass
"""


def test_own_kernel_is_a_kernel_like_others() -> None:
    """The user's own kernel is chosen alone, or behind those that are named."""
    provider = QemuProvider(lambda: Wishes(OWN))
    assert provider.select("") == ("image-6.13.0-rc1",)
    assert provider.select("oldest,6.12") == ("5.10", "6.12", "image-6.13.0-rc1")
    assert QemuProvider().select("6.12") == ("6.12",)
    with pytest.raises(ProvisionError):
        QemuProvider().select("")


def test_image_chooses_a_kernel(pytester: pytest.Pytester) -> None:
    """An image is a choice of a kernel, of which the header tells; a wrong one is a usage error before any test."""
    pytester.makepyfile(TEST)
    pytester.makeini("[pytest]\nkernelproof_kernel = 9.99\n")
    pytester.path.joinpath("bzImage").write_bytes(make_bzimage(b"?", banner=b"no release"))
    result = pytester.runpytest("--kernel-image", "bzImage")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: read kernel: */bzImage: no kernel that can be booted: *", "*name a bzImage*"])
    pytester.makepyfile("def test_here(): pass")
    result = pytester.runpytest("--kernel-image", "bzImage", "--kernel", "6.12")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["kernelproof: kernel 6.12, bzImage"])


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        (("--kernel-image", "a", "--kernel-tree", "b"), "*name one of them*"),
        (("--kernel", "6.12", "--modules", "m"), "*modules without their kernel*"),
        (("--kernel", "6.12", "--guest-root", "gone"), "*choose guest root: */gone: not there*"),
        (("--kernel", "6.12", "--guest-root", ".", "--package", "x"), "*--package x: is for Debian's own root*"),
    ],
)
def test_options_that_can_not_be(pytester: pytest.Pytester, options: tuple[str, ...], seen: str) -> None:
    """Options that do not go together are a usage error that says what to do."""
    pytester.makepyfile(TEST)
    result = pytester.runpytest(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([seen, "*remedy: *"])
