"""The command line: commands only. Everything they do is in the packages below.

A command imports what it needs when it runs: torch and Ray take seconds, and `show-config` needs neither.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler

from edc_ray.artifacts.storage.layout import RUN_CONFIG
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.config.load import load_recipe, load_yaml, to_yaml, unknown_name
from edc_ray.config.recipes import RECIPES
from edc_ray.config.run import STAGE_NAMES, RunConfig, StageName
from edc_ray.errors import ArtifactError, ConfigError, EdcRayError

app = typer.Typer(
    name="edc-ray",
    help="Condense a labelled image dataset into a few images per class plus soft labels.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
stderr = Console(stderr=True)

Words = Annotated[
    list[str] | None, typer.Argument(metavar="[RECIPE] [section.field=value ...]", show_default=False)
]
ConfigFile = Annotated[
    str | None, typer.Option("--config", help="YAML of a whole config, instead of a recipe.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


@app.command()
def run(
    words: Words = None, config: ConfigFile = None, as_json: AsJson = False, quiet: Quiet = False
) -> None:
    """All stages of the pipeline, in order. What is done is reused."""
    resolved = _config(words, config)  # a mistake is answered before the import of torch
    from edc_ray.launch import Output, launch

    launch(resolved, STAGE_NAMES, Output(as_json, quiet))


@app.command()
def stage(
    name: Annotated[str, typer.Argument(metavar="STAGE", help=", ".join(STAGE_NAMES))],
    words: Words = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """One stage alone; the stages it needs must be complete."""
    chosen: list[StageName] = [known for known in STAGE_NAMES if known == name]
    if not chosen:
        raise unknown_name("stage", name, STAGE_NAMES)
    resolved = _config(words, config)
    from edc_ray.launch import Output, launch

    launch(resolved, chosen, Output(as_json, quiet))


@app.command()
def sweep(
    words: Words = None, config: ConfigFile = None, as_json: AsJson = False, quiet: Quiet = False
) -> None:
    """Many runs over sweep.space, for example sweep.space.recover.matching_weight=[0.001,0.01,0.1]."""
    resolved = _config(words, config)
    from edc_ray.launch import Output, launch_sweep

    launch_sweep(resolved, Output(as_json, quiet))


@app.command("show-config")
def show_config(words: Words = None, config: ConfigFile = None) -> None:
    """The config as YAML: `edc-ray show-config digits > run.yaml`, `edc-ray run --config run.yaml`."""
    sys.stdout.write(to_yaml(_config(words, config)))


@app.command()
def recipes() -> None:
    """The recipes, each with the published row it aims at."""
    for name, recipe in RECIPES.items():
        print(f"{name:<15} {(recipe.__doc__ or '').splitlines()[0]}")


@app.command()
def verify(url: str) -> None:
    """Compare every stored file with its recorded size and hash. Status 1 if any is wrong."""
    from edc_ray.artifacts.proof.manifest import is_proof, verify_run
    from edc_ray.sharing.export.target import ABOUT, export_problems

    store = _stored_run(url)
    found = [*verify_run(store), *export_problems(store)]
    problems = list({problem.path: problem for problem in found}.values())  # both may name a file
    paths = [] if problems else store.list()
    vouched = any(is_proof(path) or path == ABOUT for path in paths)
    if not problems and not vouched and RUN_CONFIG in paths:
        print(f"{store.url}: a run of which no unit is done, so there is nothing to compare")
        return
    if not problems and not vouched:
        raise ConfigError(
            f"nothing in {store.url} says what its files should hold",
            found=f"{len(paths)} files, none of them a manifest, a record or {ABOUT}",
            expected="a run, or what edc-ray imported, compressed or exported with a manifest",
        )
    for problem in problems:
        print(f"{problem.path}: {problem.problem}")
    print(f"{store.url}: {len(problems)} damaged or missing files" if problems else f"{store.url}: sound")
    raise typer.Exit(1 if problems else 0)


@app.command()
def status(url: str) -> None:
    """Which stages of a run are complete. Status 1 if a manifest is damaged."""
    from edc_ray.artifacts.proof.manifest import read_manifest
    from edc_ray.artifacts.storage.layout import records_folder, stage_folder

    store = _stored_run(url)
    try:
        own = read_manifest(store, "")  # of images that were exported for Hugging Face
    except ArtifactError as error:
        print(f"{error.summary}; edc-ray verify tells of its files")
        raise typer.Exit(1) from None
    states = set()
    for name in STAGE_NAMES:
        folder = stage_folder(name)
        units = len(store.list(records_folder(folder)))
        try:
            manifest = own if own is not None and own.stage == name else read_manifest(store, folder)
            units = len(manifest.records) if manifest else units
            state = "complete" if manifest else "incomplete" if units else "not there"
        except ArtifactError:
            state = "damaged"
        print(f"{name:<11} {state:<11} {units} units")
        states.add(state)
    raise typer.Exit(1 if "damaged" in states else 0)


@app.command()
def report(url: str) -> None:
    """Write a run's pictures, curves and HTML page anew; prints where they are."""
    from edc_ray.report.run_report import write_report
    from edc_ray.stages.units.event_log import read_events

    _stored_run(url)  # before opening it for writing, which would make the folder
    store = open_store(url)
    for written in write_report(store, read_events(store)):
        print(written)


@app.command()
def gc(
    url: Annotated[str, typer.Argument(help="Of a run, or of what was imported.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    older_than: Annotated[
        str, typer.Option(help="Keep what is younger: a writer may be at work on it. 90s, 30m, 1h, 2d.")
    ] = "1h",
    as_json: AsJson = False,
) -> None:
    """Remove what killed writers left: temporary files, shards that no record names, pending uploads."""
    from edc_ray.artifacts.proof.garbage import find_garbage, parse_age, remove_garbage
    from edc_ray.report.garbage_table import garbage_json, print_garbage

    min_age = parse_age(older_than)
    store = open_store(url, writable=False)
    found = find_garbage(store, min_age, STAGE_NAMES)
    if not found.garbage and not found.young:
        _stored_run(url)
    gone = found.garbage if dry_run else remove_garbage(store, found.garbage, min_age)
    if as_json:
        print(garbage_json(store.url, found, gone, dry_run=dry_run))
    else:
        print_garbage(store.url, found, gone, dry_run=dry_run)


@app.command("import")
def import_(
    url: Annotated[
        str, typer.Argument(help="Folder of new000/..., 00000/..., train/00000/..., *.parquet or *.tar.")
    ],
    dest: Annotated[str, typer.Argument(help="Folder to write; it then reads like a run.")],
    words: Words = None,
    config: ConfigFile = None,
    labels: Annotated[
        str | None, typer.Option(help="Official label files of these images: folder of epoch_0/.")
    ] = None,
) -> None:
    """Import condensed images (and their labels) that others, or export, have written."""
    from edc_ray.sharing.import_official import import_images

    print(import_images(_config(words, config), url, dest, labels=labels))


@app.command("import-statistics")
def import_statistics(
    url: Annotated[str, typer.Argument(help="Folder that holds ConvFeatureHook/.")],
    dest: Annotated[str, typer.Argument(help="Folder to write, for statistics.source.")],
    words: Words = None,
    config: ConfigFile = None,
    class_patch_swapped: Annotated[
        bool, typer.Option(help="Class files hold patch mean and variance under each other's key.")
    ] = True,
) -> None:
    """Import official statistics of a recipe's observers: one table each instead of many small files."""
    from edc_ray.sharing.import_official import import_statistics

    told = import_statistics(_config(words, config), url, dest, class_patch_swapped=class_patch_swapped)
    print(told)


@app.command()
def export(
    url: Annotated[str, typer.Argument(help="Of a run, or of what was imported or compressed.")],
    dest: Annotated[str, typer.Argument(help="Folder to write: any path or URL.")],
    style: Annotated[
        str, typer.Option("--format", help="official, rded, huggingface, imagefolder or webdataset")
    ] = "official",
    only: Annotated[
        list[str] | None,
        typer.Option(help="images, labels or statistics; once for each; default: all that there are."),
    ] = None,
    ipc: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many images of a class, without labels.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Only the labels of the first so many epochs.")
    ] = None,
    image_format: Annotated[
        str | None, typer.Option(help="png or jpeg: encode anew; default: bytes as stored.")
    ] = None,
    license: Annotated[
        str, typer.Option(help="Of the condensed set, for its card: cc-by-4.0, other, ...")
    ] = "unknown",
    shard_mb: Annotated[
        int, typer.Option(min=1, help="About the size of a file (huggingface, webdataset).")
    ] = 400,
    batch_size: Annotated[
        int | None, typer.Option(help="Of the official student; must be the size of the mixing groups.")
    ] = None,
    class_patch_swapped: Annotated[
        bool, typer.Option(help="Exchange patch mean and variance in class files, as the official writer.")
    ] = True,
    network_names: Annotated[
        bool, typer.Option(help="ResNet_ResNet18=layer (CIFAR) instead of ResNet=layer (Tiny-ImageNet).")
    ] = True,
) -> None:
    """Write a condensed set as others read it, with what belongs to it; a card says how it was made."""
    from edc_ray.sharing.card import dataset_card
    from edc_ray.sharing.export.options import FORMATS, PARTS, ExportOptions
    from edc_ray.sharing.export.run import export_run

    options = ExportOptions(
        _one_of("format", style, FORMATS),
        [_one_of("part", part, PARTS) for part in only] if only else None,
        ipc, epochs, _one_of("image format", image_format, ("png", "jpeg")) if image_format else None,
        batch_size, class_patch_swapped, network_names, license, shard_mb * 1_000_000,
    )  # fmt: skip
    _stored_run(url)
    for told in export_run(url, dest, options, dataset_card):
        print(told)


@app.command()
def compress(
    url: Annotated[str, typer.Argument(help="Of a run with stored labels, or of what was imported.")],
    codec: Annotated[
        str, typer.Option(help="For example q8, top16_q6, pca64_top4_q5, or fp16 to change the epochs alone.")
    ],
    keep_epochs: Annotated[
        int | None, typer.Option(min=1, help="Keep the first epochs only; default: all.")
    ] = None,
    dest: Annotated[
        str | None, typer.Option(help="Folder to write; default: URL with the codec and epochs appended.")
    ] = None,
) -> None:
    """Copy a condensed set with its soft labels encoded anew; the copy reads like a run. URL itself stays."""
    from edc_ray.sharing.compress import compress_run

    _stored_run(url)
    print(compress_run(url, dest, codec=codec, keep_epochs=keep_epochs))


def main() -> None:
    """Entry point: an error becomes its four-part message on stderr and its exit status."""
    # uv would build a new environment in every Ray worker; read when ray is imported.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    handler = RichHandler(console=stderr, show_time=False, show_path=False)
    logging.basicConfig(level="WARNING", format="%(message)s", handlers=[handler])
    logging.getLogger("edc_ray").setLevel("INFO")
    try:
        app()
    except EdcRayError as error:
        stderr.print(f"{type(error).__name__}: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_status)


def _stored_run(url: str) -> Store:
    store = open_store(url, writable=False)
    if not store.list():
        raise ConfigError(
            f"there is no run at {store.url}", next="give the run's folder: <storage.root>/<run.name>"
        )
    return store


def _one_of(kind: str, name: str, known: Sequence[str]) -> Any:
    if name not in known:
        raise unknown_name(kind, name, known)
    return name


def _config(words: list[str] | None, config_file: str | None) -> RunConfig:
    """Config of `RECIPE overrides...`, or of `--config FILE overrides...`."""
    words = list(words or [])
    if config_file is None:
        if not words or "=" in words[0]:
            raise ConfigError("no recipe is given", expected=f"one of {', '.join(RECIPES)}, or --config FILE")
        return load_recipe(words[0], words[1:])
    if words and "=" not in words[0]:
        raise ConfigError("both a recipe and --config are given", found=words[0], expected="one of them")
    try:
        with open(config_file, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {config_file} cannot be read", found=str(error)) from error
    return load_yaml(text, words, source=config_file)


if __name__ == "__main__":
    main()
