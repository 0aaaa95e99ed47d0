"""Every error that a user can cause or fix.

AmsnetError                 1   what happened, to which file, and what to try
├── UsageError              2   options that do not fit together, or a value out of range
├── PhotoError              1   a picture that cannot be read, or nothing to read
├── OutputError             1   a result that cannot be written
├── BugError                1   an unforeseen exception in one photo, so that the others continue
├── TrainingError           1   a fit that cannot start or resume, or that diverged
├── WeightsError            4   weights that are missing, damaged, unknown or out of reach
└── DeviceError             5   no such device, or out of memory

The number is the exit code of the command line; 3 (some files failed), 130 and 143 (interrupted)
belong to no single error, nor does 141 (the reader of stdout has gone). Any other exception is a
bug outside of any photo and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AmsnetError(Exception):
    """An error with a message of one line.

    Args:
        what: what happened, naming the file.
        hint: the next thing to try, or empty.
    """

    exit_code = 1

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what}; {hint}" if hint else what)
        self.what = what
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the attributes on the way to another process, and a cause by the system."""
        cause = self.__cause__ if isinstance(self.__cause__, OSError) else None
        return _received, (type(self), self.args, self.__dict__, cause)


def _received(
    kind: type[AmsnetError],
    args: tuple[str, ...],
    attributes: dict[str, object],
    cause: OSError | None,
) -> AmsnetError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    error.__cause__ = cause
    return error


class UsageError(AmsnetError):
    """Options that do not fit together, or a value out of range."""

    exit_code = 2


class PhotoError(AmsnetError):
    """A picture that cannot be read, or a folder without any."""


class OutputError(AmsnetError):
    """A result that cannot be written."""


class BugError(AmsnetError):
    """An exception that nobody foresaw, while a photo was worked on.

    Args:
        photo: the photo.
        error: the exception.
    """

    def __init__(self, photo: Path, error: Exception) -> None:
        said = " ".join(str(error).split())[:200]
        super().__init__(
            f"{photo}: a bug in amsnet: {type(error).__name__}{f' ({said})' * bool(said)}",
            "report it, please, with the traceback that AMSNET_DEBUG=1 shows",
        )


@contextmanager
def bugs_named(photo: Path) -> Iterator[None]:
    """Turn whatever is raised within, but for an `AmsnetError`, into a `BugError` of a photo."""
    try:
        yield
    except AmsnetError:
        raise
    except Exception as error:
        raise BugError(photo, error) from error


class TrainingError(AmsnetError):
    """A fit that cannot start or resume, or that diverged."""


class WeightsError(AmsnetError):
    """Weights that are missing, damaged, unknown or out of reach."""

    exit_code = 4


class DeviceError(AmsnetError):
    """No such device, or not enough memory on it."""

    exit_code = 5
