"""A run that is there: its results, images, labels and networks, for a script or a notebook."""

from __future__ import annotations

import base64
import json
from html import escape
from typing import Any, Literal

from torch import nn

from edc_ray.artifacts.proof.manifest import Problem, read_manifest, read_shard
from edc_ray.artifacts.proof.records import Manifest, Record
from edc_ray.artifacts.storage.layout import (
    REPORT_FOLDER,
    REPORT_PAGE,
    RUN_DATA,
    join_path,
    stage_folder,
)
from edc_ray.artifacts.storage.limits import MAX_CONFIG_BYTES
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.config.load import unknown_name
from edc_ray.config.run import RunConfig, StageName
from edc_ray.data.condensed.images import CondensedImages
from edc_ray.data.condensed.stream import CondensedDataset
from edc_ray.errors import ArtifactError, ConfigError
from edc_ray.models.observers import network_from_bytes
from edc_ray.report.run_report import result_rows, write_report
from edc_ray.report.table import ResultRow, ShownTable, results_table
from edc_ray.runs.stored_run import StageState, stage_states, stored_run
from edc_ray.sharing.card import dataset_card
from edc_ray.sharing.compress import compress_run
from edc_ray.sharing.export.options import ExportOptions, Format
from edc_ray.sharing.export.run import export_run
from edc_ray.sharing.verify import verify_folder
from edc_ray.stages.units.event_log import read_events
from edc_ray.stages.units.stored_runs import stored_config

_IMAGES = {"condensed": "recover", "init": "init"}
_LARGEST_PICTURE = 2**24


def open(url: str, storage_options: dict[str, Any] | None = None) -> Run:
    """The run in a folder; also what was imported or compressed, which has no config.

    Args:
        url: <storage.root>/<run.name>: a local path, s3://..., gs://...
        storage_options: fsspec's.

    Raises:
        ConfigError: there is no run.
    """
    return Run(stored_run(url, storage_options))


class Run:
    """A run in its folder. What it returns is read when you ask for it, so it is current.

    Attributes:
        url: of the folder.
        store: the files in it.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.url = store.url

    @property
    def config(self) -> RunConfig:
        """The resolved config. Its storage.root and run.name are the place where the run lies now.

        Raises:
            ArtifactError: there is none: the folder was imported or compressed.
        """
        config = stored_config(self.store)
        root, _, name = self.url.rpartition("/")
        places = {"storage": {"root": root}, "run": {"name": name}}
        return config.model_copy(
            update={part: getattr(config, part).model_copy(update=place) for part, place in places.items()}
        )

    @property
    def stages(self) -> dict[StageName, StageState]:
        """How far each stage is."""
        return stage_states(self.store)

    @property
    def rows(self) -> list[ResultRow]:
        """Lines of the table of results; none before evaluate is complete."""
        return result_rows(self.store)

    def table(self) -> ShownTable:
        """The table of results, for a terminal, a notebook or (`to_markdown`) a document."""
        return results_table(self.rows, self._title())

    def images(self, which: Literal["condensed", "init"] = "condensed", **options: Any) -> CondensedImages:
        """The condensed images, or those before recovery.

        Args:
            which: condensed or init.
            options: transform, cache, ipc, classes; see `CondensedImages`.

        Raises:
            ArtifactError: the stage that makes them is not complete.
        """
        if which not in _IMAGES:
            raise unknown_name("kind of images", which, _IMAGES)
        return CondensedImages(self.url, self.store.options, stage=_IMAGES[which], **options)

    def dataset(self, **options: Any) -> CondensedDataset:
        """The stored views and their soft labels as batches for a DataLoader.

        Args:
            options: batch_size, num_epochs, shuffle_seed and more; see `CondensedDataset`.

        Raises:
            ArtifactError: recover or relabel is not complete, or labels are not stored.
        """
        return CondensedDataset(self.url, self.store.options, **options)

    def students(self, *names: str, row: str = "condensed", seed: int = 0) -> dict[str, nn.Module]:
        """Trained students by name, frozen, on the CPU.

        They take images float32 [B, C, H, W], normalised by the mean and std of `images()`.

        Args:
            names: of the students; none: all. A network of your own (module:factory) must be named, because
                a stored name alone never decides which code is imported.
            row: of the table: the images on which they were trained.
            seed: of the student, 0 to evaluate.seeds - 1.

        Raises:
            ArtifactError: evaluate is not complete, students were not stored, or a file is damaged.
            ConfigError: no such student, row or seed.
        """
        manifest = read_manifest(self.store, stage_folder("evaluate"))
        if manifest is None:
            raise ArtifactError(f"stage evaluate is not complete in {self.url}", next="run it first")
        stored = _students_of(manifest, row, seed, self.url)
        if unknown := [name for name in names if name not in stored]:
            raise unknown_name("student", unknown[0], stored)
        return {name: self._network(manifest, name, stored[name], name in names) for name in names or stored}

    def report(self) -> str:
        """URL of the HTML page with images, curves and the table; written where it is missing."""
        page = join_path(REPORT_FOLDER, REPORT_PAGE)
        return self.store.join(page) if self.store.exists(page) else self.write_report()[0]

    def write_report(self) -> list[str]:
        """Write the page, its pictures and TensorBoard's files again.

        Returns:
            URLs of the page and of the pictures.
        """
        return write_report(open_store(self.url, self.store.options), read_events(self.store))

    def verify(self) -> list[Problem]:
        """Damaged and missing files, none if the run is sound. Reads every byte."""
        return verify_folder(self.store)

    def export(self, dest: str, format: Format = "official", **options: Any) -> list[str]:
        """Write the condensed set in a format that other programs read, with a card that tells its making.

        Args:
            dest: URL of the folder to write.
            format: official, rded, huggingface, imagefolder or webdataset.
            options: parts, ipc, epochs, license and more; see `ExportOptions`.

        Returns:
            A sentence for each part.

        Raises:
            ConfigError, ArtifactError: as `export_run`.
        """
        return export_run(self.store, dest, ExportOptions(format, **options), dataset_card)

    def compress(self, codec: str, dest: str | None = None, *, keep_epochs: int | None = None) -> str:
        """Copy the condensed set with its labels in another codec, or of fewer epochs; see `compress_run`.

        Returns:
            What was written, as a sentence.
        """
        return compress_run(self.store, dest, codec=codec, keep_epochs=keep_epochs)

    def __repr__(self) -> str:
        states = ", ".join(f"{name} {state.state}" for name, state in self.stages.items())
        return f"Run({self.url!r}): {states}"

    def _repr_html_(self) -> str:
        states = ", ".join(f"{name} {state.state}" for name, state in self.stages.items())
        picture = self.store.read_if_there(join_path(REPORT_FOLDER, "condensed.png"), limit=_LARGEST_PICTURE)
        shown = f'<img src="data:image/png;base64,{base64.b64encode(picture).decode()}">' if picture else ""
        table = self.table()._repr_html_() if self.rows else ""
        return f"<p><code>{escape(self.url)}</code><br>{states}</p>{table}{shown}"

    def _title(self) -> str:
        """What the numbers are of, as far as the folder states it."""
        data = self.store.read_if_there(RUN_DATA, limit=MAX_CONFIG_BYTES)
        if data is None:
            return "top-1 on real images"
        config, images = self.config, json.loads(data)["val"]["images"]
        return f"{config.dataset.name}, method {config.method}: top-1 on {images} real images"

    def _network(self, manifest: Manifest, name: str, record: Record, named: bool) -> nn.Module:
        folder, judged = stage_folder("evaluate"), record.meta["students"]["judged"]
        shard = next(shard for shard in record.shards if shard.path == judged)
        return network_from_bytes(
            read_shard(self.store, folder, shard),
            name=name if named else None,
            class_names=manifest.dataset["class_names"],
            source=self.store.join(join_path(folder, judged)),
        )


def _students_of(manifest: Manifest, row: str, seed: int, url: str) -> dict[str, Record]:
    """Records of the students of a row and seed, by name."""
    results = {id(record): record.meta["result"] for record in manifest.records}
    rows = dict.fromkeys(result["row"] for result in results.values())
    seeds = dict.fromkeys(result["seed"] for result in results.values())
    if row not in rows:
        raise unknown_name("row", row, rows)
    if seed not in seeds:
        raise ConfigError(f"{url} has no student of seed {seed}", expected=f"one of {list(seeds)}")
    chosen = [record for record in manifest.records if record.meta["result"]["row"] == row]
    found = {
        record.meta["result"]["student"]: record
        for record in chosen
        if record.meta["result"]["seed"] == seed and "students" in record.meta
    }
    if not found:
        raise ArtifactError(
            f"{url} stores no students",
            found="evaluate.save_students=false",
            next="run the config with evaluate.save_students=true and another run.name",
        )
    return found
