"""Too little memory: networks then see a batch in parts, half as many images at once until memory is enough.

In eval mode a network treats each image by itself, so the results of the parts are those of the batch, up to
rounding. Trainings are not divided: their BatchNorms measure the batch.
"""

from __future__ import annotations

import copy
import ctypes
import gc
import textwrap
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import torch
from torch import Tensor

from edc_ray.core.captured_step import RECORDING
from edc_ray.core.device_errors import is_out_of_memory
from edc_ray.errors import ResourceError

Result = TypeVar("Result")

# What is done with images -> the fields that say how many there are.
_FIELDS = {
    "statistics": "statistics.batch_size",
    "recover": "recover.classes_per_unit and recover.ipc_per_unit (recover.batch_size in the other orders)",
    "labels and scores": "relabel.batch_size or init.crops_per_image",
    "accuracy": "evaluate.val_batch_size",
}


class ImagesAtOnce:
    """How many images each network sees at once, once memory was too little for a batch.

    A process keeps it, so that the next batch does not fail first.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], int] = {}  # by what is done and the network
        self._told: set[str] = set()
        self._may_divide: Callable[[], bool] = lambda: True

    def divided_if(self, may_divide: Callable[[], bool]) -> ImagesAtOnce:
        """This one, for a unit that gets the error instead where others have taken the memory."""
        found = copy.copy(self)  # both know the same
        found._may_divide = may_divide
        return found

    def facts(self, *what: str) -> dict[str, int]:
        """For the record of a unit: the smallest number; nothing if memory was enough."""
        # A copy, because other units may compute meanwhile.
        found = [images for (done, _), images in list(self._known.items()) if done in what]
        return {"images_at_once": min(found)} if found else {}

    def forward(
        self, what: str, network: str, compute: Callable[[Tensor], Tensor], images: Tensor, *, dim: int = 0
    ) -> Tensor:
        """What a network gives for some images [B, ...]; `dim` of the result is that of the images.

        Raises:
            ResourceError: as `attempt`.
        """

        def in_parts(at_once: int | None) -> Tensor:
            if at_once is None or len(images) <= at_once:
                return compute(images)
            return torch.cat([compute(part) for part in images.split(at_once)], dim)

        return self.attempt(what, network, in_parts, len(images), images.device)

    def attempt(
        self, what: str, network: str, work: Callable[[int | None], Result], count: int, device: torch.device
    ) -> Result:
        """The result of work on `count` images, which is told how many to look at at once (None: all).

        If memory was too little, the work is done again from its beginning with half as many. One warning for
        each `what` says so.

        Raises:
            ResourceError: memory is too little for one image at a time.
        """
        failed = False
        while True:
            at_once = self._known.get((what, network))
            try:
                result = work(at_once)
                break
            except Exception as error:
                if not is_out_of_memory(error) or not self._may_divide():
                    raise
                problem = textwrap.shorten(str(error) or type(error).__name__, 200, placeholder=" ...")
            # Not earlier, because the error held what the work had in memory.
            _free_memory(device)
            tried, failed = min(count, at_once or count), True
            if tried == 1:
                raise _too_little(what, network, problem, device)
            self._known[what, network] = -(-tried // 2)
        if failed and what not in self._told:
            self._told.add(what)
            warnings.warn(
                f"{what}: memory was too little for {count} images at once, so {network} now sees {at_once} "
                "at a time. Results are the same up to rounding",
                stacklevel=3,
            )
        return result


def _free_memory(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        with RECORDING:  # of another thread, which this would break
            torch.cuda.synchronize(device)  # work that broke off may still run on a stream of its own
            torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    else:
        with suppress(OSError, AttributeError, TypeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)


def _too_little(what: str, network: str, problem: str, device: torch.device) -> ResourceError:
    memory = ""
    if device.type == "cuda":
        free, total = (each / (1 << 30) for each in torch.cuda.mem_get_info(device))
        memory = f"; the device has {total:.1f} GiB, {free:.1f} of them free"
    return ResourceError(
        f"{what}: memory is too little for {network}, even for one image at a time",
        found=f"{problem}{memory}",
        expected="room for the network, the batch, and the activations of one image",
        next=f"lower {_FIELDS[what]}, run fewer actors on a device (cluster.gpus_per_actor), or use smaller "
        "networks or a device with more memory",
    )
