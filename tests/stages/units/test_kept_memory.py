from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from edc_ray.stages.units.kept_memory import keep_freed_memory

FAULTS = """
import resource, sys, torch
from edc_ray.stages.units.kept_memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
torch.set_num_threads(1)
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for bits in (18, 20, 22, 23, 24):
    torch.ones(1 << bits)
    before = faults()
    for _ in range(10):
        torch.ones(1 << bits)
print(faults() - before)
"""


def faults(mode: str) -> int:
    """Page faults of taking 64 MB ten times, after smaller blocks."""
    command = [sys.executable, "-c", FAULTS, mode]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
@pytest.mark.nightly
def test_blocks_that_are_freed_and_taken_again_cause_no_page_faults() -> None:
    assert faults("keep") * 4 < faults("leave")


def test_saying_it_again_changes_nothing() -> None:
    assert keep_freed_memory() == keep_freed_memory()
