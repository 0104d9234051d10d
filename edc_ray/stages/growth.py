"""Growing a run: what stays as it began, what may change, and why a folder does not take another size.

By ipc where the method's values follow ipc: images that are there stay only in the blocks they were made in,
so the block sizes of a run that began with fewer images are kept. Labels and students are made anew from all
images, so they get the values of the new ipc.

By classes no unit could stay. An observer ends in one output for each class, so every observer is another
one, pretrained ones too (`squeeze.head_classes` takes other outputs). Recovery's cross entropy is over all
classes, the statistics of the whole set cover all of them, a soft label has a number for each, and so has the
score by which initial crops are chosen. So a run of more classes is another run, in a folder of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edc_ray.artifacts.layout import network_name
from edc_ray.config.method_values import field_value
from edc_ray.config.methods import METHODS
from edc_ray.config.run import RunConfig

_BLOCK_SIZES = ("recover.classes_per_unit", "recover.ipc_per_unit")
_NAMES_SHOWN = 5
_MADE_ANEW = ("relabel.", "evaluate.")


def with_blocks_of(earlier: RunConfig, config: RunConfig) -> RunConfig:
    """`config` with the block sizes in which a run began, where its method chose both sizes by ipc.

    Sizes that a user chose, then or now, are left alone.
    """
    theirs = _values(earlier, _BLOCK_SIZES)
    if earlier.method != config.method or _values(config, _BLOCK_SIZES) != _by_method(config, config.ipc):
        return config
    if not any(_by_method(config, ipc) == theirs for ipc in range(1, config.ipc)):
        return config
    sizes = {path.partition(".")[2]: value for path, value in theirs.items()}
    return config.model_copy(update={"recover": config.recover.model_copy(update=sizes)})


def follows_ipc(earlier: RunConfig, config: RunConfig, field: str) -> bool:
    """Whether a field of what is made anew has its method's value for the ipc, both before and after."""
    if earlier.method != config.method or earlier.ipc >= config.ipc or not field.startswith(_MADE_ANEW):
        return False
    return all(
        field_value(one, field) == field_value(_of_method(one, one.ipc), field) for one in (earlier, config)
    )


def advice(earlier: RunConfig, config: RunConfig, url: str) -> str | None:
    """What to do instead where a folder is asked for other classes, fewer images or fewer epochs.

    Args:
        earlier: the config that made the folder.
        config: the one that is asked for.
        url: of the folder.

    Returns:
        None where none of these differs.
    """
    if changed := _classes_changed(earlier, config):
        return _advice_on_classes(earlier, changed, url)
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


def _classes_changed(earlier: RunConfig, config: RunConfig) -> str | None:
    """How the classes differ, in words; None where they do not."""
    old, new = earlier.dataset.class_names or (), config.dataset.class_names or ()
    if old == new:
        return None
    added = [name for name in new if name not in old]
    gone = [name for name in old if name not in new]
    words = [
        f"{len(added)} added ({_some(added)})" if added else "",
        f"{len(gone)} gone ({_some(gone)})" if gone else "",
    ]
    return " and ".join(word for word in words if word) or "the same in another order"


def _advice_on_classes(earlier: RunConfig, changed: str, url: str) -> str:
    fixed = [name for name in earlier.squeeze.observers if name in earlier.squeeze.weights]
    trained = [name for name in earlier.squeeze.observers if name not in fixed]
    text = (
        f"classes: {changed}. Kept: nothing; made anew: every observer, statistic, image, label and student, "
        "because observers, cross entropy, statistics of the whole set and soft labels are over all classes. "
        "Give another run.name"
    )
    if trained:
        text += (
            f"; trained observers can start from here, with a fresh head: squeeze.weights.{trained[0]}="
            f"{{url: {url}/squeeze/{network_name(trained[0])}, sha256: ...}}, the sha256 as in "
            f"{url}/squeeze/manifest.json"
        )
    if fixed:
        text += (
            f"; the weight files of {_some(fixed)} serve again, with squeeze.head_classes of the new classes"
        )
    return text


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")


def _by_method(config: RunConfig, ipc: int) -> dict[str, Any]:
    return _values(_of_method(config, ipc), _BLOCK_SIZES)


def _of_method(config: RunConfig, ipc: int) -> RunConfig:
    return METHODS[config.method](config.model_copy(update={"ipc": ipc}))


def _values(config: RunConfig, fields: tuple[str, ...]) -> dict[str, Any]:
    return {field: field_value(config, field) for field in fields}
