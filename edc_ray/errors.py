"""Errors a user can meet. Each names the object, what was found, what was expected and what to do next."""

from __future__ import annotations

from typing import Any


class EdcRayError(Exception):
    """Base of every error raised on purpose.

    Args:
        summary: one sentence that names the stage and the object.
        found: what was found.
        expected: what was expected.
        next: a command or a setting that fixes it.

    The command line exits with `exit_status`.
    """

    exit_status = 1

    def __init__(
        self,
        summary: str,
        *,
        found: object = None,
        expected: object = None,
        next: object = None,  # the fourth part of a message; the builtin is not needed here
    ) -> None:
        super().__init__(summary)
        self.summary = summary
        self.found = found
        self.expected = expected
        self.next = next

    def __str__(self) -> str:
        parts = [("found", self.found), ("expected", self.expected), ("next", self.next)]
        lines = [self.summary, *(f"  {name + ':':<9} {text}" for name, text in parts if text is not None)]
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors are pickled between processes. The default drops keyword-only arguments, and `found` may be
        # any object, so it travels as the text of the message.
        state = {name: value if _is_plain(value) else str(value) for name, value in self.__dict__.items()}
        return (_rebuild, (type(self), self.summary), state)


def plural(count: float, noun: str) -> str:
    """The count with its noun, as in "1 unit" and "2 units"."""
    shown = f"{count:g}" if isinstance(count, float) else str(count)
    return f"{shown} {noun}" + ("" if count == 1 else "s")


def how_to_install(extra: str) -> str:
    """What to do about a library of an extra that is not installed."""
    return f"pip install 'edc-ray[{extra}]', or make extra EXTRA={extra} in a clone; on every node"


def _rebuild(kind: type[EdcRayError], summary: str) -> EdcRayError:
    error = kind.__new__(kind)
    EdcRayError.__init__(error, summary)
    return error


def _is_plain(value: object) -> bool:
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))  # type: ignore[call-overload]
    return value is None or type(value) in (str, int, float, bool)


class ConfigError(EdcRayError):
    """A config, recipe, field or override that cannot be used."""

    exit_status = 2


class DataError(EdcRayError):
    """Input images or labels that cannot be used."""

    exit_status = 2


class OtherImagesError(DataError):
    """Images that contradict what the config says of them: their classes or colours."""


class ArtifactError(EdcRayError):
    """A stored artifact that is missing, incomplete, damaged or from another source."""

    exit_status = 2


class StorageError(ArtifactError):
    """Storage that fails now, such as a full disk. The same call may work later."""


class ResourceError(EdcRayError):
    """More actors, CPUs, GPUs or memory than there is."""

    exit_status = 2


class DeviceError(EdcRayError):
    """The device of a process failed, and nothing more can be computed in that process."""


class NumericalError(EdcRayError):
    """A NaN or Inf. It stops the work unit in which it appeared."""


class UnitsFailedError(EdcRayError):
    """Some work units of a stage, or trials of a sweep, failed. The others are done."""

    exit_status = 3
