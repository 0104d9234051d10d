"""Growing a run: what a larger ipc or more classes keep, and why a folder refuses other sizes.

A larger ipc adds images. Existing images stay only if their blocks keep their size, so a run keeps the block
sizes with which it began. Labels and students are made again, with the method's values for the new ipc.

New classes come after the existing ones, which keep their labels. Images that depend only on their own class
stay (`kept_units`). All else is made again (`made_again` says why): an observer has one output for each
class, and cross entropy, statistics, soft labels and the scores of crops cover all classes. A folder is
refused if no finished image could stay, and if classes were removed, inserted or reordered: existing images
would get other labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from edc_ray.artifacts.storage.layout import RUN_CONFIG, join_path, network_name
from edc_ray.config.methods.registry import with_method
from edc_ray.config.run import RunConfig
from edc_ray.errors import ConfigError

_NAMES_SHOWN = 5
_MADE_AGAIN = ("relabel.", "evaluate.")
_OF_CLASSES = (
    "dataset.class_names", "dataset.num_classes", "dataset.mean", "dataset.std", "squeeze.head_classes"
)  # fmt: skip
_MOST_LISTED = 100


def with_blocks_of(earlier: RunConfig, config: RunConfig) -> RunConfig:
    """`config` with the block sizes with which a run began, unless a user chose sizes, then or now."""
    theirs, ours = _block_sizes(earlier), _block_sizes(config)
    if earlier.method != config.method or ours != _block_sizes(_of_method(config, config.ipc)):
        return config
    if all(_block_sizes(_of_method(config, ipc)) != theirs for ipc in range(1, config.ipc)):
        return config
    return config.model_copy(update={"recover": config.recover.model_copy(update=theirs)})


def follows_ipc(earlier: RunConfig, config: RunConfig, field: str) -> bool:
    """Whether a field of relabel or evaluate has its method's value for the ipc, before and after."""
    if earlier.method != config.method or earlier.ipc >= config.ipc or not field.startswith(_MADE_AGAIN):
        return False
    value = attrgetter(field)
    return all(value(one) == value(_of_method(one, one.ipc)) for one in (earlier, config))


def added_names(earlier: RunConfig, config: RunConfig) -> tuple[str, ...]:
    """The new classes, if they follow those of the earlier run, which keep their labels; else ()."""
    old, new = _names(earlier), _names(config)
    heads, heads_now = earlier.squeeze.head_classes, config.squeeze.head_classes
    if heads is not None and heads_now is not None:
        heads_now = heads_now[: len(heads)]
    # Pretrained heads keep the outputs of the earlier classes.
    return new[len(old) :] if old and new[: len(old)] == old and heads == heads_now else ()


def follows_classes(earlier: RunConfig, config: RunConfig, field: str) -> bool:
    """Whether a field may differ because classes were added."""
    return field in _OF_CLASSES and bool(added_names(earlier, config))


def refuse_to_lose_images(earlier: RunConfig, config: RunConfig, url: str) -> None:
    """Raise a ConfigError if added classes make all finished images again: observers chose or made them."""
    if added_names(earlier, config) and (config.recover.enabled or observers_choose(config)):
        raise ConfigError(
            f"recover: all condensed images of {url} would be made again for the added classes",
            found=f"complete images of {len(_names(earlier))} classes",
            expected=f"{len(_names(config))} classes",
            next=_why_nothing_stays(earlier, url),
        )


def observers_choose(config: RunConfig) -> bool:
    return config.init.kind == "mosaic" and config.init.source is None


def advice(earlier: RunConfig, config: RunConfig, url: str, *, complete: bool = True) -> str | None:
    """What to do instead of asking a folder for other classes, fewer images or fewer epochs; else None."""
    if _names(earlier) != _names(config) and not added_names(earlier, config):
        return _advice_on_classes(earlier, config, url, complete)
    source = f"init.source={url} recover.enabled=false"
    if config.ipc < earlier.ipc:
        return (
            f"nothing needs to be made for fewer images: edc-ray export {url} DEST --ipc {config.ipc} takes "
            f"the first {config.ipc} of each class; to label them and train students on them, another "
            f"run.name with {source} ipc={config.ipc}"
        )
    if config.relabel.epochs < earlier.relabel.epochs:
        return (
            f"nothing needs to be made for fewer epochs: edc-ray export or compress takes the first "
            f"{config.relabel.epochs}; to train students on them, another run.name with {source} "
            f"relabel.source={url} relabel.epochs={config.relabel.epochs} ipc={earlier.ipc}"
        )
    return None


def _advice_on_classes(earlier: RunConfig, config: RunConfig, url: str, complete: bool) -> str:
    """How to add the names; if that is impossible, why nothing stays and what can be used again."""
    old, new = _names(earlier), _names(config)
    if new[: len(old)] == old:
        return (
            "added classes leave the outputs of the existing ones as they are: let squeeze.head_classes "
            f"begin with {list(earlier.squeeze.head_classes or ())}"
        )
    kinds = {
        "added": [name for name in new if name not in old], "gone": [name for name in old if name not in new],
    }  # fmt: skip
    words = [f"{len(names)} {kind} ({some(names)})" for kind, names in kinds.items() if names]
    changed = " and ".join(words) or "the same in another order"
    if not kinds["gone"] and len(new) > len(old):
        listed = f"those of {join_path(url, RUN_CONFIG)}, then the new"
        if len(new) <= _MOST_LISTED:
            listed = "[" + ",".join([*old, *kinds["added"]]) + "]"
        return (
            f"classes: {changed}, in between. To add them here, list them last: dataset.class_names={listed}"
        )
    if not kinds["added"] and len(new) < len(old):
        if not complete:
            return (
                f"the images of {len(old)} classes are not complete: finish them with the class names that "
                f"{join_path(url, RUN_CONFIG)} lists"
            )
        return (
            "nothing needs to be made for fewer classes: edc_ray.data.condensed.CondensedImages("
            f"'{url}', classes=[...]) shows them; to label them and train students on them, another run.name "
            f"with init.source={url} recover.enabled=false ipc={earlier.ipc}"
        )
    return f"classes: {changed}. {_why_nothing_stays(earlier, url)}"


def _why_nothing_stays(earlier: RunConfig, url: str) -> str:
    fixed = [name for name in earlier.squeeze.observers if name in earlier.squeeze.weights]
    trained = [name for name in earlier.squeeze.observers if name not in fixed]
    text = (
        "Nothing could be kept: observers, statistics and soft labels cover all classes, and existing images "
        "would get other labels. Give another run.name"
    )
    if trained:
        text += (
            f"; trained observers can start from these, with a new head: squeeze.weights.{trained[0]}="
            f"{{url: {url}/squeeze/{network_name(trained[0])}, sha256: ...}}, the sha256 as in "
            f"{url}/squeeze/manifest.json"
        )
    if fixed:
        text += f"; the weight files of {some(fixed)} can be used again, with other squeeze.head_classes"
    return text


def _names(config: RunConfig) -> tuple[str, ...]:
    return config.dataset.class_names or ()


def some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")


def _of_method(config: RunConfig, ipc: int) -> RunConfig:
    return with_method(config.model_copy(update={"ipc": ipc}), config.method)


def _block_sizes(config: RunConfig) -> dict[str, int]:
    return config.recover.model_dump(include={"classes_per_unit", "ipc_per_unit"})
