"""Packages come from signed indexes only, and are what these say; against an archive in a folder."""

from __future__ import annotations

import re
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from kernelproof.vm.apt_output import Package
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.provision_progress import SilentProgress
from kernelproof.vm.provision_unpack import read_packages
from kernelproof.vm.tests.provision.archive import Archive, Signer
from kernelproof.vm.tests.provision.conftest import MakeApt
from kernelproof.vm.tests.provision.ranges import serve_ranges


def test_packages_come_with_all_they_depend_on(archive: Archive, make_apt: MakeApt) -> None:
    """A package of one suite that needs one of another is resolved, fetched and can be unpacked."""
    archive.add("trixie", "base")
    archive.add("trixie-security", "top", depends="base (>= 1)")
    archive.add("trixie", "unrelated")
    archive.publish("trixie")
    archive.publish("trixie-security")
    apt = make_apt()
    assert apt.update(["trixie", "trixie-security"]) == ("trixie", "trixie-security")
    packages = apt.resolve(["trixie", "trixie-security"], ["top"])
    assert sorted(package.name for package in packages) == ["base", "top"]
    tree = read_packages(apt.fetch(packages), lambda path: path.startswith("usr/share/"))
    assert tree["usr/share/base/data"].data == b"base"
    assert tree["usr/share/top/data"].data == b"top"


def test_fetched_package_is_kept_though_the_mirror_changes(archive: Archive, make_apt: MakeApt) -> None:
    """What was fetched from a folder is a copy: it outlives the mirror's file, and is not fetched twice."""
    deb = archive.add("trixie", "base")
    archive.publish("trixie")
    apt = make_apt()
    packages = apt.resolve(apt.update(["trixie"]), ["base"])
    apt.fetch(packages)
    deb.unlink()
    (path,) = apt.fetch(packages)
    assert path.is_file()
    assert not path.is_symlink()


def test_tampered_index_is_refused(archive: Archive, make_apt: MakeApt) -> None:
    """One letter changed inside the signature: nothing of that suite is used."""
    archive.add("trixie", "base")
    release = archive.publish("trixie")
    release.write_bytes(release.read_bytes().replace(b"Origin: Test", b"Origin: Tost"))
    with pytest.raises(ProvisionError, match="fetch package index: trixie") as caught:
        make_apt().update(["trixie"])
    assert "signed by the Debian keyring" in caught.value.remedy


def test_index_signed_by_a_stranger_is_refused(archive: Archive, make_apt: MakeApt, stranger: Signer) -> None:
    """A good signature by a key that is not in the keyring is none."""
    archive.add("trixie", "base")
    archive.publish("trixie", signer=stranger)
    with pytest.raises(ProvisionError) as caught:
        make_apt().update(["trixie"])
    assert "signed by the Debian keyring" in caught.value.remedy


def test_unsigned_index_is_refused_whatever_this_machine_allows(archive: Archive, make_apt: MakeApt) -> None:
    """Settings that allow unsigned archives don't help: the command line says otherwise."""
    archive.add("trixie", "base")
    archive.publish("trixie", signed=False)
    allowed = (
        ("Acquire::AllowInsecureRepositories", "true"),
        ("Acquire::AllowDowngradeToInsecureRepositories", "true"),
        ("APT::Get::AllowUnauthenticated", "true"),
    )
    with pytest.raises(ProvisionError, match="is not signed"):
        make_apt(options=allowed).update(["trixie"])


def test_list_that_the_index_does_not_vouch_for_is_refused(archive: Archive, make_apt: MakeApt) -> None:
    """A changed list of packages below a good signature is noticed."""
    archive.add("trixie", "base")
    archive.publish("trixie")
    index = archive.root / "dists/trixie/main/binary-amd64/Packages.gz"
    index.write_bytes(index.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ProvisionError, match="fetch package index: trixie"):
        make_apt().update(["trixie"])


def test_tampered_package_is_refused(archive: Archive, make_apt: MakeApt) -> None:
    """A package of the right size and the wrong content is not kept; the good one beside it is."""
    archive.add("trixie", "good")
    bad = archive.add("trixie", "bad")
    archive.publish("trixie")
    bad.write_bytes(bad.read_bytes().replace(b"bad", b"BAD"))
    apt = make_apt()
    packages = apt.resolve(apt.update(["trixie"]), ["bad", "good"])
    with pytest.raises(ProvisionError, match="download: bad") as caught:
        apt.fetch(packages)
    assert "Hash Sum mismatch" in caught.value.detail
    assert apt.fetch([package for package in packages if package.name == "good"])
    with pytest.raises(ProvisionError, match="download: bad"):
        apt.fetch(packages)


def test_vanished_suite_is_left_out(archive: Archive, make_apt: MakeApt, progress: SilentProgress) -> None:
    """A suite that is gone is told once and left out; the others serve."""
    archive.add("trixie", "base")
    archive.publish("trixie")
    apt = make_apt()
    assert apt.update(["trixie-updates", "trixie", "trixie-security"]) == ("trixie",)
    assert [note.split(":")[0] for note in progress.notes] == [
        "suite trixie-updates left out",
        "suite trixie-security left out",
    ]
    assert apt.resolve(["trixie"], ["base"])


def test_suites_that_are_all_gone_are_an_error(archive: Archive, make_apt: MakeApt) -> None:
    """With no suite left there is nothing to go on with."""
    archive.publish("sid")
    with pytest.raises(ProvisionError, match=r"fetch package index: trixie: .*does not have a Release file"):
        make_apt().update(["trixie", "trixie-security"])


def test_next_mirror_is_tried(archive: Archive, make_apt: MakeApt, tmp_path: Path) -> None:
    """A mirror that does not carry the suite, or is another archive, gives way to the next."""
    archive.add("trixie", "base")
    archive.publish("trixie")
    apt = make_apt(f"file:{tmp_path}/none", archive.uri)
    assert apt.update(["trixie"]) == ("trixie",)
    (package,) = apt.resolve(["trixie"], ["base"])
    assert package.uri.startswith(archive.uri)


def test_list_of_mirrors_in_a_file_serves(archive: Archive, make_apt: MakeApt, tmp_path: Path) -> None:
    """An address of apt's mirror method, as cloud images have it, is asked like any other."""
    archive.add("trixie", "base")
    archive.publish("trixie")
    (tmp_path / "mirrors.list").write_text(f"{archive.uri}\n")
    apt = make_apt(f"mirror+file:{tmp_path}/mirrors.list")
    (path,) = apt.fetch(apt.resolve(apt.update(["trixie"]), ["base"]))
    assert read_packages([path], lambda name: True)["usr/share/base/data"].data == b"base"


def test_expired_index_is_refused(archive: Archive, make_apt: MakeApt) -> None:
    """An index past its date is refused, with the way to accept it."""
    archive.publish("trixie", valid=timedelta(days=-2))
    with pytest.raises(ProvisionError, match="is expired") as caught:
        make_apt().update(["trixie"])
    assert "KERNELPROOF_EXPIRED=accept" in caught.value.remedy


def test_expired_index_is_taken_when_accepted_and_told(
    archive: Archive, make_apt: MakeApt, progress: SilentProgress
) -> None:
    """Who accepts old indexes is told which one was old; one that is not old is not mentioned."""
    archive.publish("trixie", valid=timedelta(days=-2))
    archive.publish("sid", valid=timedelta(days=2))
    assert make_apt(accepts_expired=True).update(["trixie", "sid"]) == ("trixie", "sid")
    assert [re.sub(r"on \d.*;", "on DATE;", note)[:37] for note in progress.notes] == [
        "the index of trixie expired on DATE; "
    ]


def test_package_that_is_not_there_is_named(archive: Archive, make_apt: MakeApt) -> None:
    """An unknown package, and one whose dependency is gone, are errors that name it."""
    archive.add("trixie", "top", depends="gone (= 1)")
    archive.publish("trixie")
    apt = make_apt()
    suites = apt.update(["trixie"])
    with pytest.raises(ProvisionError, match="unknown"):
        apt.resolve(suites, ["unknown"])
    with pytest.raises(ProvisionError, match="resolve packages: top"):
        apt.resolve(suites, ["top"])
    assert apt.locate(suites, ["top=1"])[0].version == "1"
    assert apt.names(suites, "to") == ("top",)
    assert [fields["depends"] for fields in apt.show(suites, ["top", "unknown"])] == ["gone (= 1)"]
    assert apt.show(suites, []) == ()


def test_damaged_package_in_the_cache_is_fetched_again(archive: Archive, make_apt: MakeApt) -> None:
    """A kept package that is not what its name says is not used."""
    archive.add("trixie", "base")
    archive.publish("trixie")
    apt = make_apt()
    packages = apt.resolve(apt.update(["trixie"]), ["base"])
    (path,) = apt.fetch(packages)
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    assert apt.fetch(packages)[0].read_bytes() == good


def test_broken_download_goes_on(archive: Archive, make_apt: MakeApt, tmp_path: Path) -> None:
    """What an interrupted run has fetched of a package is not fetched again."""
    deb = archive.add("trixie", "base", files={"usr/share/base/data": bytes(100_000)})
    archive.publish("trixie")
    with serve_ranges(archive.root) as (uri, ranges):
        apt = make_apt(uri)
        packages = apt.resolve(apt.update(["trixie"]), ["base"])
        part = tmp_path / "apt/debs" / f"{packages[0].sha256}.part"
        part.write_bytes(deb.read_bytes()[:60_000])
        (path,) = apt.fetch(packages)
    assert path.read_bytes() == deb.read_bytes()
    assert ranges == ["bytes=60000-"]


def test_unreachable_mirror_is_told(make_apt: MakeApt) -> None:
    """With no network the error says so."""
    with serve_ranges(Path("/nonexistent")) as (uri, _):
        gone = uri
    apt = make_apt(gone, options=(("Acquire::Retries", "0"),))
    with pytest.raises(ProvisionError, match="connect to the network"):
        apt.update(["trixie", "trixie-security"])


def test_hooks_and_pins_of_this_machine_are_not_obeyed(make_apt: MakeApt, tmp_path: Path) -> None:
    """The configuration that apt runs with has no hook and looks into no folder of the machine but for programs."""
    make_apt()
    command = ["apt-config", "dump"]
    environment = {"APT_CONFIG": str(tmp_path / "apt" / "apt.conf"), "PATH": "/usr/bin:/bin"}
    dump = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "Invoke" not in dump
    assert "Pre-Install-Pkgs" not in dump
    for name in ("State", "Cache", "Etc", "Etc::parts", "Etc::preferencesparts", "Etc::trustedparts"):
        (value,) = re.findall(rf'^Dir::{name} "(.*)";$', dump, re.MULTILINE)
        assert value.startswith(str(tmp_path))


def test_no_mirror_at_all_is_told(make_apt: MakeApt) -> None:
    """A machine without a Debian mirror is told to configure one."""
    apt = make_apt("file:/nonexistent")
    with pytest.raises(ProvisionError, match="fetch package index"):
        apt.update(["trixie"])


def test_package_record_is_plain(archive: Archive, make_apt: MakeApt) -> None:
    """A resolved package says its name, version, size and digest."""
    deb = archive.add("trixie", "base", "1:2.0~rc1-3")
    archive.publish("trixie")
    apt = make_apt()
    (package,) = apt.resolve(apt.update(["trixie"]), ["base"])
    assert package == Package("base", "1:2.0~rc1-3", package.uri, deb.stat().st_size, package.sha256)
