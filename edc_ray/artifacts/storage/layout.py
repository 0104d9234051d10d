"""Names of everything a run stores. Names only: nothing is read or written here.

<storage.root>/<run.name>/
    run.yaml  data.json  events.jsonl  report/report.html  sweep/<trial>/, a run of its own
    lease.json while a driver works there
    <stage folder>/<shard>  <stage folder>/records/<unit key>.json  <stage folder>/manifest.json

Shards of results/ are tables and, where evaluate.save_students, the students' weights.
"""

from __future__ import annotations

import re
import string
from pathlib import PurePosixPath

RUN_CONFIG = "run.yaml"
RUN_DATA = "data.json"
EVENT_LOG = "events.jsonl"
LEASE = "lease.json"
REPORT_FOLDER = "report"
REPORT_PAGE = "report.html"
SWEEP_FOLDER = "sweep"
TRIALS_FOLDER = f"{SWEEP_FOLDER}/trials"
TENSORBOARD_FOLDER = "tensorboard"
MANIFEST_NAME = "manifest.json"
RECORDS_FOLDER = "records"
# Other programs read these folders as `condensed/*.parquet`, so they hold the result only. Other folders keep
# units of an earlier plan: a later run may ask for more seeds or observers again.
READ_BY_FOLDER = ("init", "condensed", "labels")
# These folders are named after what they hold, the others after their stage.
_FOLDERS = {"recover": "condensed", "relabel": "labels", "evaluate": "results"}
_STAGES = {folder: stage for stage, folder in _FOLDERS.items()}
# The endings of `table_name`, `arrays_name`, `network_name` and `student_name`.
SHARD_SUFFIXES = (".parquet", ".npz", ".safetensors")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]*")
_PLAIN = frozenset(string.ascii_letters + string.digits + "._-")


def stage_folder(stage: str) -> str:
    """Folder of a stage's shards, records and manifest."""
    return _FOLDERS.get(stage, stage)


def stage_of(folder: str) -> str:
    """The stage whose results are in a folder; the reverse of `stage_folder`."""
    return _STAGES.get(folder, folder)


def join_path(folder: str, name: str) -> str:
    """Path below the root of a store; folder "" is the root itself."""
    return f"{folder}/{name}" if folder else name


def is_inside(path: str) -> bool:
    """Whether a relative path stays inside its folder, on every storage."""
    pure = PurePosixPath(path)
    plain = str(pure) == path and path != "." and not pure.is_absolute() and ".." not in pure.parts
    return plain and "\\" not in path and "://" not in path and all(ord(letter) >= 32 for letter in path)


def is_key(text: str) -> bool:
    """Whether a text can be a unit key."""
    return _KEY.fullmatch(text) is not None


def manifest_path(folder: str) -> str:
    return join_path(folder, MANIFEST_NAME)


def records_folder(folder: str) -> str:
    return join_path(folder, RECORDS_FOLDER)


def record_path(folder: str, unit_key: str) -> str:
    """Path of a unit's record; a ValueError if the key is not a plain file name."""
    if not is_key(unit_key):
        raise ValueError(f"a unit key is made of letters, digits and . _ = + -, got {unit_key!r}")
    return join_path(records_folder(folder), f"{unit_key}.json")


def block_key(first_class: int, last_class: int, first_ipc: int, last_ipc: int) -> str:
    """Unit key of a block of classes times a block of ipc ids; both ends belong to the block."""
    return f"classes-{first_class:05d}-{last_class:05d}_ipc-{first_ipc:05d}-{last_ipc:05d}"


def epochs_key(first_epoch: int, last_epoch: int) -> str:
    """Unit key of a range of epochs; both ends belong to it."""
    return f"epochs-{first_epoch:05d}-{last_epoch:05d}"


def network_key(name: str) -> str:
    """A network's name as a part of a file's name: `timm:resnet18` becomes `timm=3Aresnet18`.

    Letters, digits and . _ - stay. Any other byte of UTF-8 becomes = and two hexadecimal digits. So no two
    names share a key, and `urllib.parse.unquote(key.replace("=", "%"))` gives the name back.
    """
    return "".join(chr(byte) if chr(byte) in _PLAIN else f"={byte:02X}" for byte in name.encode())


def batches_key(first_batch: int, last_batch: int) -> str:
    """Unit key of the statistics of a range of data batches; both ends belong to it."""
    return f"batches-{first_batch:06d}-{last_batch:06d}"


def table_name(unit_key: str) -> str:
    return f"{unit_key}.parquet"


def arrays_name(observer: str, unit_key: str) -> str:
    """Sums of one observer in a unit of all observers."""
    return f"{network_key(observer)}_{unit_key}.npz"


def network_name(observer: str) -> str:
    return f"{network_key(observer)}.safetensors"


def student_name(unit_key: str, weights: str) -> str:
    """Weights of a trained student: 'live', or 'averaged' over its training."""
    return f"{unit_key}_{weights}.safetensors"
