"""The report of a run: images before and after, curves, the table, one HTML page, and its summary.

The page has its pictures inside and fetches nothing.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from edc_ray.artifacts.proof.manifest import read_manifest, read_shard
from edc_ray.artifacts.proof.records import Manifest
from edc_ray.artifacts.storage import layout
from edc_ray.artifacts.storage.layout import join_path, stage_folder
from edc_ray.artifacts.storage.limits import MAX_CONFIG_BYTES
from edc_ray.artifacts.storage.store import Store
from edc_ray.artifacts.tables.codec import table_from_bytes
from edc_ray.artifacts.tables.schema import read_results_table
from edc_ray.config.run import STAGE_NAMES
from edc_ray.data.condensed.images import read_condensed_images
from edc_ray.errors import ArtifactError
from edc_ray.report.curves import plot_curves, write_tensorboard
from edc_ray.report.grid import write_grid
from edc_ray.report.table import ResultRow, ShownTable, aggregate, results_table

_PAGE = Path(__file__).with_name("page.html.jinja")
_CLASSES_SHOWN, _COLUMNS_SHOWN = 20, 10
_PICTURES = {"init": "images before recovery", "recover": "condensed images"}
# What a summary says of a stage and of a row.
_OF_A_STAGE = ("seconds", "units_done", "units_reused")
_OF_A_ROW = ("row", "ipc", "student", "n", "top1_mean", "top1_std")


@dataclass(frozen=True)
class Picture:
    """A PNG and the line that explains it."""

    caption: str
    png: bytes

    @property
    def uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


def result_rows(store: Store) -> list[ResultRow]:
    """Lines of the table of results; none before evaluate is complete."""
    manifest = read_manifest(store, stage_folder("evaluate"))
    if manifest is None:
        return []
    rows = aggregate(manifest.meta["results"])
    if "full_cited" in manifest.meta:
        top1, note = manifest.meta["full_cited"], "cited, not trained here"
        students = dict.fromkeys(row.student for row in rows)
        rows += [ResultRow("full", None, student, 0, top1, None, None, note) for student in students]
    return rows


def class_table(store: Store) -> ShownTable:
    """Accuracy of each class in percent, mean over seeds: a line per class, a column per row and student.

    There are no lines before evaluate is complete.

    Raises:
        ArtifactError: a table of results is damaged.
    """
    manifest = read_manifest(store, stage_folder("evaluate"))
    found: dict[str, list[list[float | None]]] = {}
    for shard in manifest.shards if manifest is not None else ():
        if shard.path.endswith(".parquet"):
            url = store.join(join_path(stage_folder("evaluate"), shard.path))
            data = read_shard(store, stage_folder("evaluate"), shard)
            table = table_from_bytes(data, url=url, ours=store.is_ours)
            rows, about = read_results_table(table, url=url)
            for row in rows:
                found.setdefault(f"{row['row']}, {row['student']}", []).append(about["per_class"])
    if manifest is None or not found:
        return ShownTable("", [], [])
    # A class without validation images has no accuracy.
    columns = [
        ["-" if None in values else f"{np.mean(values):.1f}" for values in zip(*students, strict=True)]
        for students in found.values()
    ]
    lines = zip(manifest.dataset["class_names"], *columns, strict=True)
    return ShownTable("", ["class", *found], [list(line) for line in lines])


def run_summary(store: Store, events: Iterable[Mapping[str, Any]], *, whole: bool = True) -> dict[str, Any]:
    """The object of `edc-ray run --json`, from the events of one call.

    The accuracy of students is in it only if the call did all its stages (`whole`).
    """
    squeeze = read_manifest(store, stage_folder("squeeze"))
    recover = read_manifest(store, stage_folder("recover"))
    rows = result_rows(store) if whole else []
    return {
        "run": store.url,
        "rows": [{name: getattr(row, name) for name in _OF_A_ROW} for row in rows],
        "stages": {
            event["stage"]: {name: event[name] for name in _OF_A_STAGE}
            for event in events
            if event["event"] in ("stage_done", "stage_reused", "stage_failed")
        },
        "observers": squeeze.meta["observers"] if squeeze else {},
        "matching_loss": recover.meta["matching_loss"] if recover else None,
    }


def write_report(store: Store, events: list[dict[str, Any]], *, tensorboard: bool = True) -> list[str]:
    """Store the pictures, the page and, if wanted, the TensorBoard files of a run, without incomplete stages.

    Returns:
        URLs of what was written: the page first, then the pictures.

    Raises:
        ArtifactError: the folder holds no run, or an artifact is damaged.
    """
    if not store.exists(layout.RUN_CONFIG):
        raise ArtifactError(
            f"there is no run at {store.url}",
            next="give the run's folder: <storage.root>/<run.name>; of a sweep, that of a trial",
        )
    found = {stage: read_manifest(store, stage_folder(stage)) for stage in STAGE_NAMES}
    manifests = {stage: manifest for stage, manifest in found.items() if manifest is not None}
    images = {
        f"{stage_folder(stage)}.png": Picture(caption, _grid(store, manifests[stage], caption))
        for stage, caption in _PICTURES.items()
        if stage in manifests
    }
    plots = {
        f"{stage}_curves.png": (stage, plot_curves(events, stage))
        for stage in ("squeeze", "recover", "evaluate")
    }
    curves = {name: Picture(f"{stage}, mean over units", png) for name, (stage, png) in plots.items() if png}
    rows = result_rows(store)
    latest = manifests[list(manifests)[-1]] if manifests else None
    page = render_page(
        title=store.url.rstrip("/").rsplit("/", 1)[-1],
        rows=rows,
        images=list(images.values()),
        curves=list(curves.values()),
        config=store.read(layout.RUN_CONFIG, limit=MAX_CONFIG_BYTES).decode(errors="replace"),
        environment=latest.environment if latest else {},
        classes=class_table(store),
    )
    written = {layout.REPORT_PAGE: page.encode(), "table.md": results_table(rows).to_markdown().encode()}
    written |= {name: picture.png for name, picture in {**images, **curves}.items()}
    if tensorboard:
        # File names hold the time of writing. Old files would stay and show every point twice.
        for outdated in store.list(join_path(layout.REPORT_FOLDER, layout.TENSORBOARD_FOLDER)):
            store.delete(outdated)
        written |= _tensorboard_files(events)
    for name, data in written.items():
        store.publish(join_path(layout.REPORT_FOLDER, name), data, replace=True)
    shown = [layout.REPORT_PAGE, *images, *curves]
    return [store.join(join_path(layout.REPORT_FOLDER, name)) for name in shown]


def _grid(store: Store, manifest: Manifest, caption: str) -> bytes:
    rows = read_condensed_images(store, stage_folder(manifest.stage), manifest)
    labels = np.unique(rows.labels)[:_CLASSES_SHOWN]
    columns = min(_COLUMNS_SHOWN, int(np.bincount(rows.labels).max()))
    kept = np.concatenate([np.flatnonzero(rows.labels == label)[:columns] for label in labels])
    names = [rows.class_names[label] for label in labels]
    return write_grid(
        rows.images[kept], columns, row_names=names, title=f"{manifest.dataset['name']}: {caption}"
    )


def _tensorboard_files(events: list[dict[str, Any]]) -> dict[str, bytes]:
    # TensorBoard's writer takes local folders only.
    with tempfile.TemporaryDirectory(prefix="edc-ray-tensorboard-") as folder:
        write_tensorboard(events, folder)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {
            f"{layout.TENSORBOARD_FOLDER}/{path.relative_to(folder).as_posix()}": path.read_bytes()
            for path in files
        }


def render_page(
    *,
    title: str,
    rows: Sequence[ResultRow],
    images: Sequence[Picture],
    curves: Sequence[Picture],
    config: str,
    environment: Mapping[str, str],
    classes: ShownTable,
) -> str:
    """The page's HTML, with every given text escaped.

    Args:
        title: heading, such as the run's name.
        rows: the table of results; empty before evaluate is complete.
        images: grids of images, shown without scaling.
        curves: plots.
        config: the run's config as text.
        environment: versions, hardware, commit.
        classes: the accuracy of each class; left out if it has no lines.
    """
    pages = Environment(
        loader=FileSystemLoader(_PAGE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return pages.get_template(_PAGE.name).render(
        title=title, rows=results_table(rows), images=images, curves=curves, config=config,
        environment=dict(environment), classes=classes,
    )  # fmt: skip
