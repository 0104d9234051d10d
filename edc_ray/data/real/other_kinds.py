"""Files that are no Parquet files but look like a dataset: what they are, and how to turn them into one."""

from __future__ import annotations

from collections.abc import Sequence

from fsspec import AbstractFileSystem

from edc_ray.data.real.undecoded import IMAGE_SUFFIXES
from edc_ray.errors import DataError

CLASS_FOLDERS = (
    "put the images into one folder for each class, or return them from a function: "
    "dataset.train=module:factory"
)
_IMAGES = "write its images as files in class folders, or as Parquet"
_ARRAYS = "return its arrays from a function: dataset.train=module:factory"
# Endings of files that begin as others do, or with nothing in particular.
_ENDINGS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    ((".npz", ".npy"), "a NumPy file", _ARRAYS),
    ((".pt", ".pth", ".pkl", ".pickle", ".mat"), "a file of another program's objects", _ARRAYS),
    ((".mdb", ".lmdb", ".tfrecord", ".tfrecords", ".rec", ".beton"), "a database of another library",
     _IMAGES),
    (IMAGE_SUFFIXES, "a single image", "name the folder that holds the class folders"),
    ((".csv", ".tsv", ".json", ".jsonl", ".txt"), "a text file", CLASS_FOLDERS),
)  # fmt: skip
# First bytes of a file, where they begin, what it is, what to do with it.
_KINDS: tuple[tuple[bytes, int, str, str], ...] = (
    (b"PK\x03\x04", 0, "a zip archive", "unpack it and name the folder"),
    (b"\x1f\x8b", 0, "a gzip archive", "unpack it and name the folder"),
    (b"7z\xbc\xaf", 0, "a 7z archive", "unpack it and name the folder"),
    (b"\xfd7zXZ", 0, "an xz archive", "unpack it and name the folder"),
    (b"BZh", 0, "a bzip2 archive", "unpack it and name the folder"),
    (b"\x28\xb5\x2f\xfd", 0, "a Zstandard archive", "unpack it and name the folder"),
    (b"Rar!", 0, "a RAR archive", "unpack it and name the folder"),
    (b"ARROW1", 0, "an Arrow file", "datasets.Dataset.from_file(FILE).to_parquet('train.parquet')"),
    (
        b"\xff\xff\xff\xff",
        0,
        "an Arrow stream",
        "datasets.Dataset.from_file(FILE).to_parquet('train.parquet')",
    ),
    (b"\x89HDF", 0, "an HDF5 file", _IMAGES),
    (b"\x93NUMPY", 0, "a NumPy file", _ARRAYS),
    (b"ustar", 257, "a tar archive", "unpack it into one folder for each class, or write it as Parquet"),
)
_WEB_PAGE = (b"<!doctype html", b"<html")
_ARCHIVES = ("zip", "gz", "tgz", "xz", "bz2", "zst", "7z", "rar")
_HEAD_BYTES = 300


def refuse_other_kinds(filesystem: AbstractFileSystem, path: str) -> None:
    """Refuse a file that is known to be something else than Parquet.

    Raises:
        DataError: names what it is, and what to do.
    """
    head = filesystem.cat_file(path, start=0, end=_HEAD_BYTES)
    assert isinstance(head, bytes)
    if head.startswith(b"PAR1") or not head:
        return
    if head.lstrip().lower().startswith(_WEB_PAGE):
        raise _refused(
            path, "a web page", "give the address of a file; a web server's list of files is no folder"
        )
    for endings, found, advice in _ENDINGS:
        if path.lower().endswith(endings):
            raise _refused(path, found, advice)
    for magic, start, found, advice in _KINDS:
        if head[start : start + len(magic)] == magic:
            raise _refused(path, found, advice)
    if not path.lower().endswith(".parquet"):
        raise _refused(path, "no Parquet file", CLASS_FOLDERS)


def refuse_other_folders(files: Sequence[str], source: str) -> None:
    """Refuse a folder without images and Parquet files that holds a dataset in another form.

    Raises:
        DataError: names the form, and what to do.
    """
    suffixes = [(name.lower().rpartition(".")[2], name) for name in files]
    for suffix, found, advice in (
        (
            "arrow",
            "a folder of datasets.save_to_disk",
            f"datasets.load_from_disk('{source}').to_parquet('train.parquet'), for each split",
        ),
        ("feather", "Arrow files", "datasets.Dataset.from_file(FILE).to_parquet('train.parquet')"),
        ("tar", "tar archives, as WebDataset has them", "unpack them, or write them as Parquet"),
        *((ending, f"{ending} archives", "unpack them and name the folder") for ending in _ARCHIVES),
        *((ending, "files of arrays", _ARRAYS) for ending in ("npz", "npy", "mat", "pt", "pkl")),
        *((ending, "a database", _IMAGES) for ending in ("tfrecord", "h5", "hdf5", "mdb", "beton")),
    ):
        name = next((name for ending, name in suffixes if ending == suffix), None)
        if name is not None:
            raise DataError(
                f"{source} holds {found}",
                found=name,
                expected="one folder of images for each class, or Parquet files",
                next=advice,
            )


def _refused(path: str, found: str, advice: str) -> DataError:
    return DataError(
        f"{path} is {found}",
        expected="a Parquet file, or a folder with one folder of images for each class",
        next=advice,
    )
