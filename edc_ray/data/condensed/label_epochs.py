"""The stored labels of one epoch after another, read by row groups: never a whole file, never all epochs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from edc_ray.artifacts.proof.manifest import Manifest, Record
from edc_ray.artifacts.proof.records import ShardInfo
from edc_ray.artifacts.storage import layout
from edc_ray.artifacts.storage.store import Store
from edc_ray.artifacts.tables.logit_columns import SHARED
from edc_ray.artifacts.tables.parquet_groups import ParquetGroups, Ranges
from edc_ray.artifacts.tables.schema import LabelRows
from edc_ray.data.condensed.label_rows import decoded_label_rows
from edc_ray.data.condensed.shard_files import open_shard
from edc_ray.errors import ArtifactError, EdcRayError


@dataclass(frozen=True)
class _OpenFile:
    """A file of labels; `shared` is its first row of the column that all rows share."""

    shard: ShardInfo
    groups: ParquetGroups
    shared: pa.Table | None


class LabelEpochs:
    """Label rows of a complete relabel by epoch, stored with any codec.

    At most one file is open, and one of its row groups is kept in stored form. Threads must not share an
    object; another process may use a copy. `numbers` are those of the stored epochs, ascending.
    """

    def __init__(self, store: Store, folder: str, manifest: Manifest, cache: str | None = None) -> None:
        self._store, self._folder, self._cache = store, folder, cache
        self._records = {number: record for record in manifest.records for number in epochs_of(record)}
        self.numbers = sorted(self._records)
        self._open: _OpenFile | None = None
        self._group: tuple[ShardInfo, int, pa.Table] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None, "_group": None}

    def count(self, epoch: int) -> int:
        """Rows of a stored epoch, according to its record."""
        record = self._records[epoch]
        return sum(shard.rows for shard in record.shards) // len(epochs_of(record))

    def urls(self, epoch: int) -> str:
        """The files that hold a stored epoch, for errors."""
        paths = [layout.join_path(self._folder, shard.path) for shard in self._records[epoch].shards]
        return ", ".join(map(self._store.join, paths))

    def read(self, epoch: int) -> LabelRows:
        """All rows of a stored epoch, in their order.

        Raises:
            ArtifactError: a file is missing or damaged, or holds fewer or more rows than its record says.
        """
        parts = [rows for shard in self._records[epoch].shards for rows in self._parts(shard, epoch)]
        found, expected = sum(map(len, parts)), self.count(epoch)
        if not found or found != expected:
            raise ArtifactError(
                f"{self.urls(epoch)}: a part of the labels of epoch {epoch}",
                found=f"{found} rows", expected=f"{expected or 'some'} rows", next="run relabel again",
            )  # fmt: skip
        return LabelRows.concatenate(parts)  # a copy, so that the row group can be freed

    def _parts(self, shard: ShardInfo, epoch: int) -> Iterator[LabelRows]:
        """The rows of an epoch in a file, from each row group that holds some."""
        url = self._store.join(layout.join_path(self._folder, shard.path))
        tables = []
        try:
            file = self._file(shard)
            for index in file.groups.groups_with("epoch", epoch):
                table = _rows_of(self._table(file, index), epoch)
                if table.num_rows:
                    tables.append(_with_shared(table, file.shared))
        except EdcRayError:
            raise
        except Exception as error:  # Arrow raises TypeError, KeyError and others besides its own
            hint = "run relabel again; edc-ray verify lists all damaged files"
            raise ArtifactError(
                f"{url} is damaged", found=str(error), expected="a Parquet file of labels", next=hint
            ) from error
        return (decoded_label_rows(table, url=url) for table in tables)

    def _file(self, shard: ShardInfo) -> _OpenFile:
        if self._open is None or self._open.shard != shard:
            self._open = self._group = None  # frees the old file before the new one is opened
            source = open_shard(self._store, self._folder, shard, self._cache)

            def fetch(ranges: Ranges) -> list[bytes]:
                return [source.read_at(number, start) for start, number in ranges]

            groups, shared = ParquetGroups(fetch, source.size(), ours=self._store.is_ours), None
            if SHARED in groups.schema.names and groups.metadata.num_row_groups:
                shared = groups.read([0], [SHARED]).slice(0, 1)
            self._open = _OpenFile(shard, groups, shared)
        return self._open

    def _table(self, file: _OpenFile, index: int) -> pa.Table:
        if self._group is None or self._group[:2] != (file.shard, index):
            self._group = None
            table = file.groups.read([index])
            table.validate(full=True)
            self._group = (file.shard, index, table)
        return self._group[2]


def epochs_of(record: Record) -> range:
    """The epochs that a unit of relabel labels."""
    first, last = record.meta["epochs"]
    return range(first, last + 1)


def _rows_of(table: pa.Table, epoch: int) -> pa.Table:
    if "epoch" not in table.column_names:
        return table  # the reader of its columns refuses it
    places = np.flatnonzero(table.column("epoch").to_numpy() == epoch)
    if not len(places) or places[-1] - places[0] + 1 == len(places):
        return table.slice(places[0] if len(places) else 0, len(places))
    return table.take(pa.array(places))


def _with_shared(table: pa.Table, shared: pa.Table | None) -> pa.Table:
    """Copy what all rows share from the file's first row to the first row of a part."""
    if shared is None or not pa.types.is_binary(shared.column(SHARED).type):
        return table  # its decoder refuses it
    column = shared.column(SHARED).combine_chunks()
    rest = pa.nulls(table.num_rows - 1, column.type)
    place = table.column_names.index(SHARED)
    return table.set_column(place, table.schema.field(SHARED), pa.chunked_array([column, rest]))
