"""Plan a batch: which photo is written to which file."""

from __future__ import annotations

import os
import stat
import string
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from amsnet_cli.errors import OutputError, UsageError
from amsnet_cli.photos.find import PassedOver, list_folder
from amsnet_cli.photos.formats import STACK_SUFFIXES, WRITABLE
from amsnet_cli.photos.formats.raw import FORMAT as RAW

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
        own = source.suffix.lower()
        same = own in STACK_SUFFIXES or (own in WRITABLE and own not in RAW.suffixes)
        suffix = source.suffix if same else ".tif"
        ext = f".{self.format}" if self.format else suffix
        folder = source.parent.absolute().name
        return self.template.format(stem=source.stem, name=source.name, folder=folder, ext=ext)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One photo and its result.

    Attributes:
        source: the photo.
        target: the file of the result.
        skip: the result exists already and is kept.
    """

    source: Path
    target: Path
    skip: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The jobs of a batch.

    Attributes:
        jobs: in the order of the inputs, photos of a folder in the order of their path's parts.
        excluded: photos that are left out because they are results of other jobs.
        passed_over: files of the folders that are not denoised.
    """

    jobs: list[Job]
    excluded: list[Path]
    passed_over: list[PassedOver]


def plan_jobs(
    inputs: Sequence[Path],
    output: Path | None,
    *,
    into_folder: bool = True,
    naming: Naming = Naming(),
    recursive: bool = False,
    force: bool = False,
    skip_existing: bool = False,
) -> Plan:
    """Decide where the result of each photo goes. Reads folders and changes nothing.

    Args:
        inputs: photos, and folders of photos.
        output: None puts results beside the photos.
        into_folder: whether `output` is a folder; if not, it is the result of the only photo.
        naming: of results in folders.
        recursive: search folders recursively; their tree is kept below `output`.
        force: results may replace files, also the photo itself if `output` is its own path.
        skip_existing: mark jobs whose result exists as skipped.

    Raises:
        PhotoError: a folder holds no photo, or cannot be read.
        UsageError: two photos would get the same name, case and Unicode normalisation ignored.
        OutputError: a result would replace a photo or another file.
    """
    resolve: Callable[[Path], Path] = cache(Path.resolve)

    def canonical(path: Path) -> Path:
        """Resolve the folder of a file; a link in the file's own place is not followed."""
        return resolve(path.parent) / path.name

    jobs: list[Job] = []
    passed_over: dict[Path, PassedOver] = {}
    for path in inputs:
        if is_folder(path):
            photos, others = list_folder(path, recursive=recursive)
            if output is not None and (root := resolve(output)) != resolve(path):
                photos = [p for p in photos if not resolve(p.parent).is_relative_to(root)]
                others = [o for o in others if not resolve(o.path.parent).is_relative_to(root)]
            passed_over |= {canonical(other.path): other for other in others}
            for source in photos:
                folder = output / source.relative_to(path).parent if output else source.parent
                jobs.append(Job(source=source, target=folder / naming.name(source)))
        elif output is not None and not into_folder:
            jobs.append(Job(source=path, target=output))
        else:
            jobs.append(Job(source=path, target=(output or path.parent) / naming.name(path)))
    unique = {(canonical(job.source), canonical(job.target)): job for job in jobs}
    jobs, excluded = _exclude_results(
        list(unique.values()), canonical, skip_existing=skip_existing
    )  # fmt: skip
    _check_collisions(jobs, canonical)
    jobs = _check_existing(jobs, canonical, force=force, skip_existing=skip_existing)
    return Plan(jobs=jobs, excluded=excluded, passed_over=list(passed_over.values()))


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder; False where the system refuses the path."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _exclude_results(
    jobs: list[Job], canonical: Callable[[Path], Path], *, skip_existing: bool
) -> tuple[list[Job], list[Path]]:
    """Take out the photos that are the result of another job, as an earlier run leaves them."""
    by_target = {canonical(job.target): job for job in jobs}
    kept, excluded = [], []
    for job in jobs:
        producer = by_target.get(canonical(job.source), job)
        if canonical(producer.source) == canonical(job.source):
            kept.append(job)
        elif skip_existing:
            excluded.append(job.source)
        else:
            raise UsageError(
                f"{job.source}: both a photo to denoise and the result of {producer.source}",
                "choose another OUT, or skip existing results with --skip-existing",
            )
    return kept, excluded


def _check_collisions(jobs: list[Job], canonical: Callable[[Path], Path]) -> None:
    sources: dict[str, Path] = {}
    for job in jobs:
        # Some file systems ignore case, or the Unicode normalisation of names.
        folded = unicodedata.normalize("NFD", str(canonical(job.target))).casefold()
        other = sources.setdefault(unicodedata.normalize("NFD", folded), job.source)
        if other != job.source:
            raise UsageError(
                f"{other} and {job.source} would both become {job.target}",
                "rename one, denoise them separately, or give distinct names with --name",
            )


def _check_existing(
    jobs: list[Job], canonical: Callable[[Path], Path], *, force: bool, skip_existing: bool
) -> list[Job]:
    """Check the files that exist under the targets: refuse, skip or allow to replace them."""
    photos = {}
    for job in jobs:
        with suppress(OSError):  # Reading the photo will report what is wrong.
            status = job.source.stat()
            photos[status.st_dev, status.st_ino] = job.source
    checked, existing = [], []
    for job in jobs:
        target = _stat_if_exists(job.target)
        if target is None:
            checked.append(job)
            continue
        photo = photos.get((target.st_dev, target.st_ino))
        if photo is not None and canonical(photo) != canonical(job.target):
            raise OutputError(f"{job.target}: is a link to the photo {photo}", "choose another OUT")
        if photo is not None and not force:
            raise OutputError(
                f"{photo}: would be overwritten by its denoised version",
                "choose another OUT, or overwrite it with --force",
            )
        if not stat.S_ISREG(target.st_mode) and not job.target.is_symlink():
            kind = "a folder" if stat.S_ISDIR(target.st_mode) else "not a regular file"
            raise OutputError(f"{job.target}: is {kind}", "choose another name")
        existing.append(job.target)
        checked.append(replace(job, skip=skip_existing))
    if existing and not (force or skip_existing):
        more = f" (and {len(existing) - 1} more results)" if len(existing) > 1 else ""
        raise OutputError(
            f"{existing[0]}{more}: already exists",
            "overwrite with --force" + ", or skip with --skip-existing" * (len(jobs) > 1),
        )
    return checked


def _stat_if_exists(target: Path) -> os.stat_result | None:
    """Return the status of a file, or of a link that leads nowhere; None if there is neither."""
    try:
        try:
            return target.stat()
        except FileNotFoundError:
            return target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({error.strerror})", "choose another OUT"
        ) from error
