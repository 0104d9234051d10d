"""Tables and the plot of bench_label_codecs.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

METRICS = {
    "relative_mse": "relative squared error of the logits",
    "kl_1": "KL at temperature 1",
    "kl_4": "KL at temperature 4",
    "kl_20": "KL at temperature 20",
}
BUDGETS = {"40x": 50.0, "100x": 20.0}
_FAMILIES = {"half": "fp16", "all logits": "q", "largest": "top", "components": "pca", "both": "pca+top"}


def family(codec: str) -> str:
    """Which kind of codec a specification names."""
    if codec == "fp16":
        return "half"
    if codec.startswith("pca"):
        return "both" if "top" in codec else "components"
    return "largest" if codec.startswith("top") else "all logits"


def front(rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """For each metric the codecs that no other beats in both bytes and error, from the fewest bytes."""
    found: dict[str, list[str]] = {}
    for metric in METRICS:
        best, names = math.inf, list[str]()
        for row in sorted(rows, key=lambda one: (one["bytes_in_unit"], one[metric])):
            if row[metric] < best:
                best = row[metric]
                names.append(row["codec"])
        found[metric] = names
    return found


def recommended(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """For each budget of bytes the codec with the smallest geometric mean of the four errors."""
    return {
        name: min(
            (row for row in rows if row["bytes_in_unit"] <= limit),
            key=lambda row: sum(math.log(max(row[metric], 1e-12)) for metric in METRICS),
        )["codec"]
        for name, limit in BUDGETS.items()
    }


def markdown(record: dict[str, Any]) -> str:
    """The measurements as tables."""
    facts = record["environment"]
    text = [
        "# Codecs of soft labels",
        "",
        f"Commit {facts['commit']}, {facts['hardware']}, {facts['threads']} threads, torch {facts['torch']}, "
        f"pyarrow {facts['pyarrow']}. Bytes are those of the columns in a Parquet file (byte-stream-split, "
        "zstd), for each label.",
        "",
        "## Synthetic logits: bytes, bounds, speed",
        "",
        "| classes | codec | B a label | for each table, B | largest error | its bound | encode, labels/s | "
        "median | decode, labels/s | median |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    text += [
        f"| {row['classes']} | {row['codec']} | {row['bytes']:.1f} | {row['shared_bytes']} | "
        f"{row['max_error']:.3g} | {row['error_bound']:.3g} | {row['encode_labels_per_second']:,.0f} | "
        f"{row['encode_median_labels_per_second']:,.0f} | {row['decode_labels_per_second']:,.0f} | "
        f"{row['decode_median_labels_per_second']:,.0f} |"
        for row in record["synthetic"]
    ]
    views = record["view_bytes"]
    text += [
        "",
        "A bound is that of these labels: of a label by class, the largest here.",
        "",
        f"Besides its logits a row holds its view's parameters: {sum(views.values()):.1f} bytes at 1,000 "
        "classes of ten images of 224 pixels ("
        + ", ".join(f"{name} {taken:.1f}" for name, taken in views.items() if taken >= 0.05)
        + "), whatever the codec.",
        "",
    ]
    if "network" in record:
        text += _network(record["network"])
    return "\n".join(text) + "\n"


def plot(network: dict[str, Any], path: Path) -> None:
    """Error against bytes for every codec that was tried; lines join those that no other beats."""
    rows = network["codecs"]
    figure, axes = plt.subplots(2, 2, figsize=(12, 9))
    for axis, (metric, title) in zip(axes.flat, METRICS.items(), strict=True):
        for kind, words in _FAMILIES.items():
            of_kind = [row for row in rows if family(row["codec"]) == kind]
            _points(axis, of_kind, [row[metric] for row in of_kind], label=words)
        best = [row for row in rows if row["codec"] in network["front"][metric] and row[metric] > 0]
        best.sort(key=lambda row: row["bytes_in_unit"])
        sizes = [row["bytes_in_unit"] for row in best]
        axis.plot(sizes, [row[metric] for row in best], color="grey", linewidth=0.8)
        held = [row for row in rows if "held_out" in row]
        _points(
            axis, held, [row["held_out"][metric] for row in held], facecolors="none", edgecolors="black",
            linewidths=0.6, label="components of other images",
        )  # fmt: skip
        for name, limit in BUDGETS.items():
            axis.axvline(limit, color="black", linewidth=0.5, linestyle=":")
            axis.text(
                limit, 0.02, name, fontsize=8, ha="right", rotation=90, transform=axis.get_xaxis_transform()
            )
        axis.set(xscale="log", yscale="log", xlabel="bytes a label", title=title)
        axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    figure.suptitle(f"Soft labels of {network['networks']} at 1,000 classes (fp16: 2,000 bytes)")
    _saved(figure, path)


def plot_students(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Accuracy against the bytes of all logits, relative to the first row's."""
    figure, axis = plt.subplots(figsize=(9, 6))
    for row in rows:
        pruned = row["pruning_factor"] > 1
        axis.errorbar(
            row["factor_of_logits"], row["top1_mean"], yerr=row["top1_std"], capsize=3,
            marker="s" if pruned else "o", color="tab:orange" if pruned else "tab:blue", linewidth=1,
        )  # fmt: skip
        axis.annotate(
            row["way"], (row["factor_of_logits"], row["top1_mean"]), xytext=(5, 5), fontsize=8,
            textcoords="offset points",
        )  # fmt: skip
    first = rows[0]
    axis.axhspan(
        first["top1_mean"] - first["top1_std"],
        first["top1_mean"] + first["top1_std"],
        color="grey",
        alpha=0.15,
    )
    axis.set(
        xscale="log",
        xlabel="logits are so many times smaller (codec x pruning)",
        ylabel="top-1 (%), mean ± std",
    )
    axis.set_title("Students on stored labels; squares: fewer epochs are stored; band: all labels in fp16")
    axis.grid(alpha=0.3)
    _saved(figure, path)


def _points(axis: Any, rows: Sequence[dict[str, Any]], errors: Sequence[float], **style: Any) -> None:
    shown = [(row["bytes_in_unit"], error) for row, error in zip(rows, errors, strict=True) if error > 0]
    if shown:
        axis.scatter(*zip(*shown, strict=True), s=22, **style)


def _saved(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _network(network: dict[str, Any]) -> list[str]:
    text = [
        f"## Logits of {network['networks']}, 1,000 classes",
        "",
        "`in a unit` adds the share of what a table of 100,000 labels (ten images of a class, ten epochs) "
        "has in common. In brackets: with principal components of the other half of the images.",
        "",
        "| codec | B a label | in a unit | smaller than 2,000 B | relative MSE | KL, T=1 | KL, T=4 | "
        "KL, T=20 | top-1 agreement | largest error | its bound |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in sorted(network["codecs"], key=lambda one: one["bytes_in_unit"]):
        held = row.get("held_out")
        cells = [
            f"{row[name]:.3g}" + (f" ({held[name]:.3g})" if held else "")
            for name in (*METRICS, "top1_agreement")
        ]
        text.append(
            f"| {row['codec']} | {row['bytes']:.1f} | {row['bytes_in_unit']:.1f} | "
            f"{2000 / row['bytes_in_unit']:.0f}x | "
            + " | ".join(cells)
            + f" | {row['max_error']:.3g} | {row['error_bound']:.3g} |"
        )
    text += ["", "Not beaten in both bytes and error:", ""]
    text += [f"- {METRICS[metric]}: {', '.join(names)}" for metric, names in network["front"].items()]
    text += ["", "Least errors (geometric mean of the four) within a budget:", ""]
    text += [f"- {name}, {BUDGETS[name]:g} B: {codec}" for name, codec in network["recommended"].items()]
    return text
