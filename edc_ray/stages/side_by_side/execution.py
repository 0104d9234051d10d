"""Units in this process: one after the other, or several trainings at once, each as if it were alone.

Each of them has a thread and, on CUDA, a stream. The bits are those of a training alone, because nothing that
it computes with is another's: settings of the process are the same for all (`unit_numerics`), what they share
is made and used by one at a time (`StageContext.one_at_a_time`), recordings have workspaces of their own
(`CapturedStep`), and a network that draws from the random state of the process trains alone
(`begin_training`).
"""

from __future__ import annotations

import gc
import os
import socket
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from threading import Lock

import torch

from edc_ray.artifacts.proof.records import Record
from edc_ray.artifacts.storage.patience import give_up_waiting
from edc_ray.config.run import RunConfig
from edc_ray.core.captured_step import RECORDING, stream_for
from edc_ray.core.device_errors import is_device_error, is_out_of_memory
from edc_ray.errors import DeviceError, ResourceError, StorageError
from edc_ray.stages.side_by_side.admission import Admission, Memory, SharedSeat
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.numerics import unit_numerics
from edc_ray.stages.units.plan import Outcome, Stage, WorkUnit, do_unit
from edc_ray.stages.units.provenance import environment_facts

MOST_TRAININGS = 8
"""On one GPU, unless the config says a number."""


def trainings_at_once(stage: Stage, config: RunConfig, device_type: str) -> int:
    """How many units of a stage a process does at the same time, if its memory holds them."""
    return most_trainings(config, device_type) if stage.trains and stage.num_workers(config) == 1 else 1


def most_trainings(config: RunConfig, device_type: str) -> int:
    """How many trainings a process does at the same time, if its memory holds them.

    With torch's compiler it is one: that keeps state of its own for a process.
    """
    if config.compile not in ("auto", "none"):
        return 1
    if config.cluster.trainings_per_actor != "auto":
        return config.cluster.trainings_per_actor
    # Actors that share a GPU share its trainings, too.
    share = min(1.0, config.cluster.gpus_per_actor or 1.0)
    return max(1, int(MOST_TRAININGS * share)) if device_type == "cuda" else 1


class DeviceMemory:
    """The memory of a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def free(self) -> float:
        """Bytes that no process holds."""
        return torch.cuda.mem_get_info(self._device)[0]

    def give_back(self) -> None:
        """Return what torch keeps for later, unless a thread records: its recording would break."""
        with RECORDING:
            gc.collect()  # networks and recordings whose parts refer to each other
            torch.cuda.empty_cache()


class SideBySide:
    """Does units of one stage in the calling threads, up to `at_once` of them at the same time.

    Args:
        memory: of the context's device; None: it is not looked at.
    """

    def __init__(self, stage: Stage, context: StageContext, memory: Memory | None = None) -> None:
        self.at_once = trainings_at_once(stage, context.config, context.device.type)
        self._stage, self._context = stage, context
        if memory is None and context.device.type == "cuda":
            memory = DeviceMemory(context.device)
        self._admission = Admission(memory)
        self._preparing, self._is_prepared = Lock(), False
        environment_facts(context.device)  # while the device answers

    def do(self, unit: WorkUnit) -> Record:
        """Do a unit and store its result.

        Raises:
            DeviceError: the device failed. No other unit can be done in this process.
            ResourceError: a training needs more memory than the device has.
        """
        try:
            return self._done(unit)
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # they hold networks on the device
            if is_device_error(error):
                raise _of_device(error, unit, self._context.device) from error
            if is_out_of_memory(error) and self._stage.trains:
                raise _of_memory(error, unit, self.at_once) from error
            raise

    def stop(self) -> None:
        """End the units that are being done, after their step."""
        self._admission.stop()

    def _done(self, unit: WorkUnit) -> Record:
        if self.at_once == 1:
            return do_unit(self._context, unit, self._stage)
        self._prepare()
        for alone in (False, True):
            with self._admission.seat(alone=alone) as seat, self._stream_of(seat):
                # In parts the last bits would depend on the company, and so would all later batches.
                at_once = self._context.at_once.divided_if(lambda seat=seat: not seat.had_company)
                context = replace(self._context, seat=seat, at_once=at_once)
                try:
                    return do_unit(context, unit, self._stage)
                except Exception as error:
                    if not is_out_of_memory(error) or not seat.had_company:
                        raise
        raise AssertionError("a unit alone has no company")

    def _prepare(self) -> None:
        with self._preparing:
            if not self._is_prepared:
                context = self._context
                with unit_numerics(context.config, context.device), context.one_at_a_time():
                    self._stage.prepare(context)
                self._is_prepared = True

    def _stream_of(self, seat: SharedSeat) -> AbstractContextManager[object]:
        device = self._context.device
        if device.type != "cuda":
            return nullcontext()
        return torch.cuda.stream(stream_for(device, ("training", seat.number)))


def execute_here(stage: Stage, context: StageContext, units: list[WorkUnit]) -> Iterator[Outcome]:
    """Run units in this process. A failing unit does not stop the others, unless storage failed for long.

    Raises:
        DeviceError: the device failed, so no other unit can be done here.
    """
    units_here = SideBySide(stage, context)

    def outcome(unit: WorkUnit) -> Outcome:
        try:
            return Outcome(unit, record=units_here.do(unit))
        except DeviceError:
            raise
        except Exception as error:
            return Outcome(unit, error=error)

    threads = min(units_here.at_once, len(units))
    if threads == 1:
        for unit in units:
            ended = outcome(unit)
            yield ended
            if isinstance(ended.error, StorageError):  # the next result could not be stored either
                return
        return
    pool = ThreadPoolExecutor(threads, "training")
    try:
        tasks = [pool.submit(outcome, unit) for unit in units]
        for done in as_completed(tasks):
            if done.cancelled():
                continue
            yield done.result()
            if isinstance(done.result().error, StorageError):
                for task in tasks:
                    task.cancel()
    except (KeyboardInterrupt, GeneratorExit):
        give_up_waiting()
        raise
    finally:
        units_here.stop()  # a process that is interrupted, or lost its device, waits for a step, not for all
        pool.shutdown(cancel_futures=True)


def _of_device(error: Exception, unit: WorkUnit, device: torch.device) -> DeviceError:
    place = f"{environment_facts(device)['hardware']} on {socket.gethostname()}"
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        place += f", CUDA_VISIBLE_DEVICES={visible}"
    return DeviceError(
        f"{unit.stage}: the device ({place}) failed in unit '{unit.title}': {_first_line(error)}",
        expected="a device that works until the stage ends",
        next="run the same command again: finished units are kept, and it makes the others. If it fails "
        "again, look for errors of the GPU with nvidia-smi and dmesg",
    )


def _of_memory(error: Exception, unit: WorkUnit, at_once: int) -> ResourceError:
    beside = " or cluster.trainings_per_actor=1" if at_once > 1 else ""
    return ResourceError(
        f"{unit.stage}: the memory of the device is too small for unit '{unit.title}'",
        found=_first_line(error),
        expected="memory for this training, with no other in the process",
        next=f"set a smaller {unit.stage}.batch_size{beside}, or free the device from other programs",
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"
