"""Decoders in packages that only an extra installs, `amsnet[codecs]` or `amsnet[heic]`."""

from __future__ import annotations

import struct
from pathlib import Path

from amsnet_cli.errors import PhotoError

MALFORMED: tuple[type[Exception], ...] = (
    *(ValueError, RuntimeError, OSError, EOFError, SyntaxError, MemoryError, OverflowError),
    *(LookupError, TypeError, AttributeError, ArithmeticError, struct.error),
)
"""What they raise on malformed files: errors of their own, and what their Python code runs into."""


def package_missing(path: Path, name: str, extra: str = "codecs") -> PhotoError:
    """Return the error for a file that needs an extra.

    Args:
        path: of the file.
        name: of the format.
        extra: that has its decoder.
    """
    return PhotoError(f"{path}: {name} needs one more package", f'pip install "amsnet[{extra}]"')
