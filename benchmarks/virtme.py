"""A clone for each test against virtme-ng booting a machine for each test: same test, kernel and accelerator.

    apt-get install virtme-ng virtiofsd busybox-static udev cpio file binutils
    .venv/bin/python benchmarks/virtme.py [--kernel 6.12] [--rounds 3]

Both sides run one trivial test with pytest, turn by turn; virtme-ng a second time with `true` in the test's place. It
boots this project's own uncompressed kernel image, which spares it the unpacking, and what its virtiofsd uses is not
counted. On the other side the session template, made once a run for any number of tests, is not counted either.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from items import WORKLOADS, Recorder, run_items
from measure import Ratio, Series, report, run_measured

from kernelproof.vm.cache import Cache
from kernelproof.vm.provision import provision
from kernelproof.vm.provision_progress import SilentProgress
from kernelproof.vm.provision_types import Kernel

TEST = "test_trivial"
AT_LEAST = 100.0
PYTEST = [
    *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null"),
    f"{WORKLOADS / 'test_trivial.py'}::{TEST}[0]",
]
CPUS, MEMORY = "2", "1G"  # as profile plain has
PROGRAMS = ("vng", "busybox", "udevadm", "cpio", "file", "strings")
PACKAGES = "virtme-ng virtiofsd busybox-static udev cpio file binutils"


def main() -> int:
    """Measure and report; 0 if the ratio is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", default="6.12", help="one of the project's kernels (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is run (default: %(default)s)")
    options = parser.parse_args()
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        parser.error(f"no {', '.join(missing)}: apt-get install {PACKAGES}")
    made = provision(options.kernel, (), cache=Cache(), progress=SilentProgress(), project=None)
    tested, booted = Series("virtme-ng, a boot for the test"), Series("virtme-ng, a boot for `true`")
    with tempfile.TemporaryDirectory(prefix="kernelproof-bench-") as folder:
        image = lay_out(made.kernel, Path(folder))

        def boot_both(name: str) -> None:
            boot_once(vng_command(image, PYTEST), tested, "1 passed")
            boot_once(vng_command(image, ["true"]), booted, "")

        recorder = Recorder((TEST,), options.rounds, boot_both)
        run_items(recorder, options.kernel)
    cloned = Series("a clone for the test", samples=recorder.samples[TEST])
    ratios = [
        Ratio("processor time, the test", tested.median_cpu() / cloned.median_cpu(), AT_LEAST),
        Ratio("wall time, the test", tested.median_wall() / cloned.median_wall()),
        Ratio("processor time, `true` against the test", booted.median_cpu() / cloned.median_cpu()),
    ]
    check_same(recorder.facts, made.kernel)
    version = subprocess.run(["vng", "--version"], check=True, capture_output=True, text=True, timeout=60)
    return report(
        "virtme", [cloned, tested, booted], ratios, facts={**recorder.facts, "virtme_ng": version.stdout.strip()}
    )


def lay_out(kernel: Kernel, folder: Path) -> Path:
    """Lay a kernel and its modules out as virtme-ng looks for them, and return the image's path."""
    with kernel.modules_cpio.open("rb") as archive:
        unpack = ["cpio", "--extract", "--make-directories", "--quiet"]
        subprocess.run(unpack, cwd=folder, stdin=archive, check=True, timeout=120)
    if not (folder / "lib").exists():
        (folder / "lib").symlink_to("usr/lib")
    (folder / "boot").mkdir(exist_ok=True)
    image = folder / "boot" / f"vmlinuz-{kernel.release}"
    image.symlink_to(kernel.vmlinux)
    return image


def vng_command(image: Path, inner: list[str]) -> list[str]:
    """The command that boots an image under TCG, runs a command in it and ends."""
    line = "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 " + shlex.join(inner)
    return ["vng", "--disable-kvm", "--cpus", CPUS, "--memory", MEMORY, "-r", str(image), "--", line]


def boot_once(command: list[str], series: Series, says: str) -> None:
    """Boot, run, and put on record what that took.

    Raises:
        RuntimeError: it failed, or did not say what tells success; with what the machine printed.
    """
    ended = run_measured(command, timeout=600)
    if ended.status != 0 or says not in ended.output:
        raise RuntimeError(f"virtme-ng ended with {ended.status}\n{ended.output[-4000:]}")
    series.samples.append(ended.sample)


def check_same(facts: Mapping[str, object], kernel: Kernel) -> None:
    """Raise unless the clones ran under TCG on this very kernel: else there is nothing to compare."""
    ran = (_fact(facts, "kernel", "release"), _fact(facts, "machine", "accelerator"))
    if ran != (kernel.release, "tcg"):
        raise RuntimeError(f"the clones ran on {ran}, virtme-ng on {kernel.release} with tcg")


def _fact(facts: Mapping[str, object], part: str, name: str) -> object:
    found = facts.get(part)
    return found.get(name) if isinstance(found, Mapping) else None


if __name__ == "__main__":
    sys.exit(main())
