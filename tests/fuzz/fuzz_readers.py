"""Coverage-guided fuzzing of one reader: `python -m tests.fuzz.fuzz_readers NAME SECONDS [FOLDER]`.

Starts from the whole file and the kept corpus. What breaks a reader is written to the working folder as
crash-*: it belongs into tests/fuzz/corpus/NAME/, which the tests replay. What took a new way through the code
is kept in FOLDER.
"""

from __future__ import annotations

import importlib
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

# A separate extra, which the type check does not need.
atheris: Any = importlib.import_module("atheris")

with atheris.instrument_imports(include=["edc_ray", "zipfile", "json", "yaml", "PIL"]):
    from edc_ray.errors import EdcRayError
    from tests.fuzz.readers import NAME, READERS


def main(name: str, seconds: str, found: str | None = None) -> None:
    """Fuzz until a reader breaks or time is up."""
    warnings.simplefilter("ignore")
    logging.disable()

    def read(data: bytes) -> None:
        try:
            READERS[name].read(data)
        except EdcRayError as error:
            if NAME not in str(error) and name not in ("config", "events"):
                raise RuntimeError("an error that does not name the file") from error

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "whole").write_bytes(READERS[name].whole())
        kept = Path(__file__).with_name("corpus") / name
        corpora = [*([found] if found else []), folder, *([str(kept)] if kept.is_dir() else [])]
        limits = [f"-max_total_time={seconds}", "-rss_limit_mb=2048", "-timeout=20", "-max_len=20000"]
        atheris.Setup([sys.argv[0], *corpora, *limits], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
