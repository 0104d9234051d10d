from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from edc_ray.stages.kept_memory import keep_freed_memory

FAULTS = """
import resource, sys, torch
from edc_ray.stages.kept_memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(1 << 24)
before = faults()
for _ in range(5):
    torch.ones(1 << 24)
print(faults() - before)
"""


def faults(mode: str) -> int:
    command = [sys.executable, "-c", FAULTS, mode]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
@pytest.mark.nightly
def test_blocks_that_are_freed_and_taken_again_cause_no_page_faults() -> None:
    assert faults("keep") * 10 < faults("leave")


def test_saying_it_again_changes_nothing() -> None:
    assert keep_freed_memory() == keep_freed_memory()
