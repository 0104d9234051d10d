from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.nightly
@pytest.mark.xdist_group("ray")
def test_a_node_may_go_and_another_come_and_no_unit_is_lost(tmp_path: Path) -> None:
    # Without tries: what a lost node takes along costs none. The cluster would be in the way of other tests.
    words = [sys.executable, "-m", "tests.cluster.lost_node", str(tmp_path)]
    done = subprocess.run(
        words, env=os.environ | {"RAY_AUTH_TOKEN": "7" * 64}, capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "no unit was lost" in done.stdout
