"""The compressed image is found in a bzImage, and what comes out is looked at."""

from __future__ import annotations

import pytest

from kernelproof.vm.kernel_image import Banner, check_vmlinux, find_config, find_payload, read_banner
from kernelproof.vm.tests.provision.images import make_bzimage, make_ikconfig, make_vmlinux

PAYLOAD = b"\x28\xb5\x2f\xfd" + b"compressed"


@pytest.mark.parametrize(
    ("magic", "name"),
    [
        (b"\x1f\x8b\x08", "gzip"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x02\x21\x4c\x18", "lz4"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"BZh9", "bzip2"),
        (b"\x5d\0\0\x80", "lzma"),
    ],
)
def test_payload_is_found_by_the_header(magic: bytes, name: str) -> None:
    """Its compression is known by its first bytes; the size behind it is taken off."""
    payload = find_payload(make_bzimage(magic + b"compressed", size=123456))
    assert (payload.compression, payload.data, payload.size) == (name, magic + b"compressed", 123456)


def test_no_sectors_mean_four() -> None:
    """A setup of zero sectors has four, as the boot document says."""
    image = bytearray(make_bzimage(PAYLOAD, sectors=4))
    image[0x1F1] = 0
    assert find_payload(bytes(image)).data == PAYLOAD


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"", "no boot sector"),
        (bytes(4096), "no boot sector"),
        (make_bzimage(PAYLOAD).replace(b"HdrS", b"Hdrs"), "no setup header"),
        (make_bzimage(PAYLOAD, version=0x207), r"2\.07 has no payload"),
        (make_bzimage(b"????compressed"), "unknown compression: 3f3f3f3f"),
        (make_bzimage(PAYLOAD, length=1 << 20), "lies outside"),
        (make_bzimage(PAYLOAD, length=0), "lies outside"),
        (make_bzimage(PAYLOAD)[:-10], "lies outside"),
    ],
)
def test_image_that_is_none_is_told(image: bytes, words: str) -> None:
    """Whatever is wrong with an image, it is a ValueError that says what."""
    with pytest.raises(ValueError, match=words):
        find_payload(image)


def test_image_with_a_pvh_entry_is_good() -> None:
    """An x86-64 ELF image of the promised size with Xen's note of type 18 passes."""
    image = make_vmlinux()
    check_vmlinux(image, len(image))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (make_vmlinux(note=b"Xan\0"), "no PVH"),
        (make_vmlinux(kind=17), "no PVH"),
        (make_vmlinux(machine=183), "not an ELF image for x86-64"),
        (b"MZ" + make_vmlinux()[2:], "not an ELF image"),
        (make_vmlinux()[:100], "program headers lie outside"),
    ],
)
def test_image_that_can_not_be_booted_is_told(image: bytes, words: str) -> None:
    """No note, another machine, no ELF or a torn one: each is told."""
    with pytest.raises(ValueError, match=words):
        check_vmlinux(image, len(image))


def test_size_that_was_not_promised_is_told() -> None:
    """A decompressor that stopped early is noticed."""
    image = make_vmlinux()
    with pytest.raises(ValueError, match=f"{len(image)} bytes came out, 7 were promised"):
        check_vmlinux(image, 7)


def test_banner_of_a_compressed_image() -> None:
    """A bzImage says its release and build in its header."""
    assert read_banner(make_bzimage(PAYLOAD)) == Banner("9.1.7-own", "#3 SMP Tue Nov 24")


def test_banner_of_an_uncompressed_image() -> None:
    """A vmlinux says them in the line that it prints first."""
    line = b"Linux version 6.12.117+deb13 (me@here) (gcc (Debian 14.2) 14.2.0, GNU ld 2.44) #1 SMP Debian 6.12\n\0"
    assert read_banner(make_vmlinux(behind=line)) == Banner("6.12.117+deb13", "#1 SMP Debian 6.12")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"", "no boot sector"),
        (make_bzimage(PAYLOAD, banner=b"../../etc (x) #1"), "no release that can be: '../../etc'"),
        (make_bzimage(PAYLOAD, banner=b"9"), "no release that can be: '9'"),
        (make_bzimage(PAYLOAD, banner=b"9.1\x1b[2J (x) #1"), "no release that can be"),
        (make_vmlinux(), "without the banner"),
    ],
)
def test_image_without_a_release(image: bytes, words: str) -> None:
    """What names no release, or one that can't be a file's name, is told."""
    with pytest.raises(ValueError, match=words):
        read_banner(image)


def test_config_in_an_image() -> None:
    """The configuration that an image carries is found; a torn one, or one of other things, is none."""
    text = b"#\n# Linux\n#\nCONFIG_X=y\n"
    assert find_config(make_vmlinux(behind=make_ikconfig(text))) == text
    assert find_config(make_vmlinux()) is None
    assert find_config(make_vmlinux(behind=make_ikconfig(b"something else"))) is None
    assert find_config(make_vmlinux(behind=make_ikconfig(text)).replace(b"\x1f\x8b\x08", b"\x1f\x8b\xff")) is None
