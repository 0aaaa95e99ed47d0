"""Plan a batch: which photo is written to which file."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from amsnet_cli.batch.conflicts import (
    Planned,
    Refuse,
    check_existing,
    exclude_results,
    raise_refusal,
    without_collisions,
)
from amsnet_cli.batch.job import Job
from amsnet_cli.batch.naming import Naming
from amsnet_cli.batch.shard import WHOLE, Shard
from amsnet_cli.photos.find import PassedOver, scan_folder
from amsnet_cli.photos.suffix import ZARR, is_zarr


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
    shard: Shard = Shard(0, 1),
    may_be_empty: bool = False,
    refuse: Refuse = raise_refusal,
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
        shard: plan only this part. Names are compared over all; whether results exist is looked
            at in this part only, as other parts may be at work already.
        may_be_empty: whether a folder without photos is no error.
        refuse: see `Refuse`.

    Raises:
        PhotoError: a folder holds no photo, or cannot be read.
        UsageError: two photos would get the same name, case and Unicode normalisation ignored.
        OutputError: a result would replace a photo or another file.
    """
    with _garbage_kept():
        planned, passed_over = _list_photos(
            inputs, output, into_folder=into_folder, naming=naming, recursive=recursive,
            shard=shard, may_be_empty=may_be_empty,
        )  # fmt: skip
        kept, excluded = exclude_results(planned, refuse, skip_existing=skip_existing)
        kept = without_collisions(kept, refuse)
        mine = [item for item in kept if item.job.part.count > 1 or shard.holds(item.key)]
        jobs = check_existing(mine, kept, refuse, force=force, skip_existing=skip_existing)
    return Plan(
        jobs=jobs,
        excluded=[item.job.source for item in excluded if shard.holds(item.key)],
        passed_over=passed_over,
    )


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Pause Python's search for cycles, which takes as long as planning itself and finds none."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _list_photos(
    inputs: Sequence[Path],
    output: Path | None,
    *,
    into_folder: bool,
    naming: Naming,
    recursive: bool,
    shard: Shard,
    may_be_empty: bool,
) -> tuple[list[Planned], list[PassedOver]]:
    """List the photos of all shards once each, and what this one passes over."""
    planned: dict[tuple[str, str], Planned] = {}
    passed_over: dict[str, PassedOver] = {}

    def add(folder: _Folder, name: str, *, divided: bool) -> None:
        if output and not into_folder:
            result = output.name
        else:
            missing = divided and not name.lower().endswith(ZARR)
            result = naming.name_of(f"{name}{ZARR * missing}", folder.source)
        job = Job(
            source=folder.source / name, target=folder.target / result,
            part=shard if divided else WHOLE,
        )  # fmt: skip
        item = Planned(
            job, folder.source_resolved + name, folder.target_resolved + result, folder.key + name
        )
        planned[item.source, item.target] = item

    for path in inputs:
        if is_folder(path):
            photos, others = scan_folder(path, recursive=recursive, may_be_empty=may_be_empty)
            folders = _Folders(path, output)
            for photo in photos:
                folder = folders.find(photo.path[: -len(photo.name)])
                if not folder.holds_results:
                    add(folder, photo.name, divided=_is_divided(photo))
            for other in others:
                name = other.path.name
                folder = folders.find(str(other.path)[: -len(name)])
                if not folder.holds_results and shard.holds(folder.key + name):
                    passed_over[folder.source_resolved + name] = other
        else:
            target = path.parent if output is None else output if into_folder else output.parent
            add(_Folder.of(path.parent, target), path.name, divided=is_zarr(path))
    return list(planned.values()), list(passed_over.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class _Folder:
    """A folder of photos, and that of their results.

    Attributes:
        source: the folder.
        target: of the results.
        source_resolved: the folder without links, with a separator at the end.
        target_resolved: likewise.
        key: the folder as seen from the input folder, with a slash at the end; or empty.
        holds_results: it lies in the folder of the results, so its photos are no inputs.
    """

    source: Path
    target: Path
    source_resolved: str
    target_resolved: str
    key: str = ""
    holds_results: bool = False

    @classmethod
    def of(cls, source: Path, target: Path, key: str = "", holds_results: bool = False) -> _Folder:
        """Resolve both folders."""
        real = [os.path.join(os.path.realpath(path), "") for path in (source, target)]  # noqa: PTH118
        return cls(
            source=source, target=target, source_resolved=real[0], target_resolved=real[1],
            key=key, holds_results=holds_results,
        )  # fmt: skip


class _Folders:
    """The folders below an input folder; each is looked at once."""

    def __init__(self, root: Path, output: Path | None) -> None:
        self._root, self._output = root, output
        self._known: dict[str, _Folder] = {}
        self._results = None
        if output is not None and root.resolve() in output.resolve().parents:
            self._results = output.resolve()

    def find(self, place: str) -> _Folder:
        """Return a folder by its path."""
        if place not in self._known:
            source = Path(place)
            below = source.relative_to(self._root)
            self._known[place] = _Folder.of(
                source, self._output / below if self._output else source,
                key="" if below == Path() else f"{below.as_posix()}/",
                holds_results=self._results is not None
                and source.resolve().is_relative_to(self._results),
            )  # fmt: skip
        return self._known[place]


def _is_divided(photo: os.DirEntry[str]) -> bool:
    """Return whether a file that was found is a Zarr folder, whose pages shards divide."""
    try:
        return photo.is_dir()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder of photos; False where the system refuses the path."""
    try:
        return path.is_dir() and not is_zarr(path)
    except OSError:
        return False
