"""What a malicious file would hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class Planted:
    """Makes a folder where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)
