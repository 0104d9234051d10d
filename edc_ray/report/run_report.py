"""The report of a run: images before and after, curves, the table, one HTML page, and its summary.

The page has its pictures inside and fetches nothing.
"""

from __future__ import annotations

import base64
import io
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from PIL import Image, ImageDraw, ImageFont

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
from edc_ray.report.table import ResultRow, ShownTable, aggregate, results_table

_SHOWN_SIDE = 64  # smallest side of an image in the grid, in pixels
_GAP = 2
_MARGIN = 6
_FONT_SIZE = 13
_NAME_WIDTH = 160
_INK, _PAPER = (30, 30, 30), (255, 255, 255)

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_CLASSES_SHOWN, _COLUMNS_SHOWN = 20, 10
_PICTURES = {"init": "images before recovery", "recover": "condensed images"}
# What a summary says of a stage and of a row.
_OF_A_STAGE = ("seconds", "units_done", "units_reused")
_OF_A_ROW = ("row", "ipc", "student", "n", "top1_mean", "top1_std")
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; color: #1d1d1f; background: #fff;
         max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
  h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
  th, td { padding: .3rem .8rem; border-bottom: 1px solid #d8d8dc; text-align: left; }
  th { border-bottom: 2px solid #8a8a8f; }
  figure { margin: 1.2rem 0; overflow-x: auto; } figcaption { color: #55555a; }
  .images { display: flex; flex-wrap: wrap; gap: 0 2.5rem; align-items: flex-start; }
  img { max-width: 100%; } img.pixels { max-width: none; image-rendering: pixelated; }
  pre { background: #f5f5f7; padding: 1rem; overflow-x: auto; font-size: .8rem; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% if rows.lines %}
<h2>Results</h2>
{{ rows.to_html() | safe }}
<p>Mean ± sample standard deviation over n trained students; ECE is the expected calibration error.</p>
{% endif %}
{% if classes.lines %}
<details>
  <summary>Accuracy of each class (top-1, %; mean over students)</summary>
  {{ classes.to_html() | safe }}
</details>
{% endif %}
{% for heading, pictures, kind in (("Images", images, "pixels"), ("Curves", curves, "plot")) if pictures %}
<h2>{{ heading }}</h2>
<div class="{{ heading | lower }}">
{% for picture in pictures %}
<figure>
  <figcaption>{{ picture.caption }}</figcaption>
  <img class="{{ kind }}" alt="{{ picture.caption }}" src="{{ picture.uri }}">
</figure>
{% endfor %}
</div>
{% endfor %}
<h2>Environment</h2>
<table>
  {% for name, value in environment.items() %}
  <tr><th>{{ name }}</th><td>{{ value }}</td></tr>
  {% endfor %}
</table>
<h2>Config</h2>
<pre>{{ config }}</pre>
</body>
</html>
"""


_TEMPLATE = Environment(
    autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
).from_string(_PAGE)


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
    return {
        "run": store.url,
        "rows": [{name: getattr(row, name) for name in _OF_A_ROW} for row in result_rows(store) if whole],
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
            f"there is no run at {store.url}", next="give the run's folder: <storage.root>/<run.name>"
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
    return _TEMPLATE.render(
        title=title, rows=results_table(rows), images=images, curves=curves, config=config,
        environment=dict(environment), classes=classes,
    )  # fmt: skip


def write_grid(
    images_NCHW: np.ndarray, columns: int, *, row_names: Sequence[str] = (), title: str = ""
) -> bytes:
    """A grid of images as a PNG, filled row by row.

    Images smaller than 64 pixels are enlarged by an integer factor: a stored pixel becomes a square.

    Args:
        images_NCHW: uint8, 1 or 3 channels.
        columns: images in a row.
        row_names: written left of each row, such as the class; empty for none.
        title: a line above the grid; empty for none.

    Raises:
        ValueError: wrong type or shape, no image, no column, or the number of names differs from the rows.
    """
    _check(images_NCHW, columns, row_names)
    factor = max(1, math.ceil(_SHOWN_SIDE / min(images_NCHW.shape[2:])))
    # Grey becomes three equal channels.
    coloured = np.broadcast_to(images_NCHW, (len(images_NCHW), 3, *images_NCHW.shape[2:]))
    tiles = coloured.transpose(0, 2, 3, 1).repeat(factor, axis=1).repeat(factor, axis=2)
    font = ImageFont.load_default(_FONT_SIZE)
    names = [_shortened(name, font) for name in row_names]
    left = _MARGIN + (math.ceil(max(font.getlength(name) for name in names)) + _MARGIN if names else 0)
    top = _MARGIN + (_FONT_SIZE + _MARGIN if title else 0)
    height, width = tiles.shape[1:3]
    rows = math.ceil(len(tiles) / columns)
    grid_width = columns * (width + _GAP) - _GAP
    page_width = left + max(grid_width, math.ceil(font.getlength(title))) + _MARGIN
    page = Image.new("RGB", (page_width, top + rows * (height + _GAP) - _GAP + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((left, _MARGIN), title, _INK, font=font)
    for row, name in enumerate(names):
        middle = top + row * (height + _GAP) + height // 2
        draw.text((left - _MARGIN, middle), name, _INK, font=font, anchor="rm")
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        page.paste(Image.fromarray(tile), (left + column * (width + _GAP), top + row * (height + _GAP)))
    buffer = io.BytesIO()
    page.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _check(images_NCHW: np.ndarray, columns: int, row_names: Sequence[str]) -> None:
    if images_NCHW.dtype != np.uint8 or images_NCHW.ndim != 4 or images_NCHW.shape[1] not in (1, 3):
        raise ValueError(
            f"images must be uint8 [N, 1 or 3, H, W], got {images_NCHW.dtype} {images_NCHW.shape}"
        )
    if not images_NCHW.size or columns < 1:
        raise ValueError(f"a grid needs an image and a column, got {len(images_NCHW)} and {columns}")
    rows = math.ceil(len(images_NCHW) / columns)
    if row_names and len(row_names) != rows:
        raise ValueError(f"{len(row_names)} names for {rows} rows")


def _shortened(name: str, font: _Font) -> str:
    if font.getlength(name) <= _NAME_WIDTH:
        return name
    while name and font.getlength(name + "...") > _NAME_WIDTH:
        name = name[:-1]
    return name + "..."
