"""How the results of a batch are named."""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path

from amsnet_cli.errors import UsageError
from amsnet_cli.photos.formats import STACK_SUFFIXES, WRITABLE
from amsnet_cli.photos.formats.raw import FORMAT as RAW
from amsnet_cli.photos.suffix import split_suffix, suffix_of

_SUFFIXES_KEPT = (frozenset(WRITABLE) - frozenset(RAW.suffixes)) | STACK_SUFFIXES
_TEMPLATE_HINT = "use {stem} or {name}, and {folder} and {ext}, as in {stem}_clean{ext}"


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How results are named.

    Attributes:
        template: may hold {stem} and {name}, the photo's name without and with its suffix,
            {folder}, the name of the photo's folder, and {ext}, the suffix of the result.
        format: suffix of the result without the dot; None keeps that of the photo, or takes TIFF
            where that format cannot be written.

    Raises:
        UsageError: the template or the format cannot be used.
    """

    template: str = "{stem}{ext}"
    format: str | None = None

    def __post_init__(self) -> None:
        option = f"--name {self.template}"
        try:
            fields = {field for _, field, _, _ in string.Formatter().parse(self.template)} - {None}
            example = self.template.format(stem="x", name="x.png", folder="x", ext=".png")
        except (ValueError, KeyError, IndexError, AttributeError) as error:
            raise UsageError(f"{option}: not a template", _TEMPLATE_HINT) from error
        if not fields <= {"stem", "name", "folder", "ext"} or not fields & {"stem", "name"}:
            raise UsageError(f"{option}: does not name the photo", _TEMPLATE_HINT)
        if Path(example).name != example or Path(example).suffix.lower() not in WRITABLE:
            raise UsageError(f"{option}: not the name of an image file", _TEMPLATE_HINT)
        if self.format is not None and f".{self.format}" not in WRITABLE:
            known = ", ".join(sorted(suffix[1:] for suffix in WRITABLE))
            raise UsageError(f"--format {self.format}: cannot be written", f"use {known}")

    def name(self, source: Path) -> str:
        """Return the file name of a photo's result."""
        return self.name_of(source.name, source.parent)

    def name_of(self, photo: str, folder: Path) -> str:
        """Return the file name of the result of a photo in a folder."""
        stem, suffix = split_suffix(photo)
        if suffix_of(photo) not in _SUFFIXES_KEPT:
            suffix = ".tif"
        ext = f".{self.format}" if self.format else suffix
        within = folder.absolute().name if "{folder" in self.template else ""
        return self.template.format(stem=stem, name=photo, folder=within, ext=ext)
