"""The version of this package, and the commit of its code."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

__version__ = "0.1.0"


def commit() -> str:
    """The code's commit, with '+dirty' where files differ from it; 'unknown' where nothing tells."""
    # What a job or an image is built from has no .git: the builder states the commit.
    given = os.environ.get("EDC_RAY_COMMIT", "")
    if re.fullmatch(r"[0-9a-f]{7,40}(\+dirty)?", given):
        return given
    folder = Path(__file__).parent
    try:
        # An installation below somebody's repository is no part of it.
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")
        head = _git(folder, "rev-parse", "--short=12", "HEAD")
        return head + ("+dirty" if _git(folder, "status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
