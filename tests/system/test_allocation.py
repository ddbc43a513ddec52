"""The allocator's settings: buffers are kept where glibc is, and left alone when asked."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAULTS = """
import system, resource, torch
def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.zeros(16 * 2**20)  # 64 MiB, more than glibc keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(24)
print(faults(8))
"""


def faults(allocator: str) -> int:
    """Pages that had to be mapped while the same buffer was taken and freed eight times."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], cwd=ROOT, capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin:/bin", "TINYSCENE_ALLOCATOR": allocator},
    )  # fmt: skip
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's malloc")
def test_freed_buffers_are_used_again() -> None:
    usual = faults("system")
    if not usual:
        pytest.skip("this kernel does not count page faults")
    assert faults("kept") < 100 < usual
