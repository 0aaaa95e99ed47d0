"""Denoise stacks: find the noise of each channel, then page by page, large pages in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from amsnet_cli import __version__
from amsnet_cli.batch.shard import WHOLE, Shard
from amsnet_cli.batch.stack_run import Progress, StackRun
from amsnet_cli.errors import OutputError, PhotoError, UsageError
from amsnet_cli.inference.denoise import DenoiseOptions, denoise
from amsnet_cli.inference.denoise_counts import CountsOptions, denoise_counts
from amsnet_cli.inference.stack_noise import (
    Detector,
    StackNoise,
    describe_law,
    grey_groups,
    group_names,
    stack_noise,
)
from amsnet_cli.model import Model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.suffix import suffix_of
from amsnet_cli.stacks.block import Block
from amsnet_cli.stacks.find import open_stack
from amsnet_cli.stacks.stack import Page, Stack, StackPhoto, photo_of_stack

SHOWN = 4
"""Channels whose noise is said."""


@dataclass(frozen=True, kw_only=True)
class DenoisedStack:
    """What is known of a stack once its pages are denoised.

    Attributes:
        photo: the stack.
        weights: name of the model.
        reason: how its noise is known.
        notes: for people.
        is_last: whether all pages are done, so that the result can be written.
    """

    photo: StackPhoto
    weights: str
    reason: str
    notes: tuple[str, ...]
    is_last: bool


class StackDenoiser:
    """Denoises stacks.

    Args:
        options: of the denoising.
        device: where to compute.
        chosen: places of the first axis that are denoised and kept.
        detector: what the user says of the noise.
        keep_flux: whether fluxes are kept; None for FITS alone.
    """

    def __init__(
        self,
        options: DenoiseOptions,
        device: torch.device,
        *,
        chosen: slice = slice(None),
        detector: Detector = Detector(),
        keep_flux: bool | None = None,
    ) -> None:
        self._options, self._device, self._chosen = options, device, chosen
        self._detector, self._keep_flux = detector, keep_flux
        self._asked = self._detector != Detector() or keep_flux is not None
        self._asked |= chosen != slice(None)
        self._runs: dict[tuple[Path, Shard], StackRun] = {}

    def open(self, source: Path, target: Path | None) -> StackPhoto | None:
        """Open a stack; None where the file is none, and nothing is asked that needs one.

        Raises:
            PhotoError: see `open_stack`; or something is asked that only stacks have.
            UsageError: options that do not work on stacks, or no target.
            OutputError: the target would be another kind of file.
        """
        stack = open_stack(source, counts=self._asked)
        if stack is None:
            if self._asked:
                raise PhotoError(
                    f"{source}: no stack and no grey TIFF",
                    "leave out --pages, --gain, --read-noise, --dark and --keep-flux",
                )
            return None
        o = self._options
        of_masks = o.n_masks, o.stride, o.repeats, o.refine, o.ensemble
        if any(v is not None for v in (*of_masks, o.crop, o.luma, o.chroma)) or o.detail:
            raise UsageError(
                "--masks, --pd-stride, --repeats, --refine, --ensemble, --crop, --luma, --chroma "
                "and --detail do not work on stacks",
                "leave them out",
            )
        if target is None:
            raise UsageError(f"{source}: a stack is denoised into a file", "name the output")
        if suffix_of(target.name) not in stack.suffixes:
            kind = "folder" if source.is_dir() else "file"
            raise OutputError(
                f"{target}: a stack keeps its format", f"name a {stack.suffixes[0]} {kind}"
            )
        inner, outer = sorted((source.resolve(), target.resolve()), key=lambda p: -len(p.parts))
        if outer in inner.parents:
            raise OutputError(f"{target}: and {source} lie in each other", "choose another OUT")
        return photo_of_stack(stack)

    def denoise(
        self,
        photo: StackPhoto,
        target: Path,
        model: Model,
        progress: Callable[[float], None],
        part: Shard = WHOLE,
    ) -> DenoisedStack:
        """Denoise the blocks of a stack; they wait beside the target.

        Args:
            photo: the stack.
            target: of the result.
            model: of photos.
            progress: called with the share done.
            part: the share of the blocks that this process denoises.

        Raises:
            AmsnetError: see `stack_noise`, `denoise_counts` and `StackRun`.
        """
        stack = photo.stack
        indices = stack.along_first_axis(self._chosen)
        groups = grey_groups(stack, indices)
        noise = {
            group: stack_noise(stack, pages, self._detector) for group, pages in groups.items()
        }

        def denoised(block: Block) -> Page:
            kind = stack.pages[block.page]
            around = block.with_halo(kind)
            page = self._denoised(around.read(stack), noise.get(kind.group), stack, model)
            return block.cut_from(page, around)

        run = StackRun(
            stack=stack, target=target, chosen=self._chosen, part=part,
            settings={
                "version": __version__, "weights": model.name, "strength": self._options.strength,
                "keep_flux": self._keeps_flux(stack), "device": self._device.type,
                "detector": [f"{value:.9g}" for value in self._detector.numbers()],
                "options": {
                    key: value for key, value in asdict(self._options).items()
                    if isinstance(value, int | float)
                },
            },
        )  # fmt: skip
        done = run.denoise(denoised, progress)
        if done.is_last:
            self._runs[target, part] = run
        notes = [*stack.notes(), *_progress(done, part)]
        called = group_names(noise)
        unknown = [called[group] for group, found in noise.items() if found.law is None]
        notes += [
            f"{_shortened(unknown)}{': ' * (unknown != [''])}its noise cannot be measured: left as "
            "it is"
        ] * bool(unknown)
        reasons = [
            f"{called[group]}{': ' * (len(noise) > 1)}variance {describe_law(found.law)} "
            f"({found.source})"
            for group, found in noise.items()
            if found.law is not None
        ]
        return DenoisedStack(
            photo=photo, weights=model.name, reason=_shortened(reasons),
            notes=tuple(notes), is_last=done.is_last,
        )  # fmt: skip

    def write(self, target: Path, modified_ns: int | None = None, part: Shard = WHOLE) -> None:
        """Write a stack whose pages are all denoised, else nothing.

        Args:
            target: of the result.
            modified_ns: see `write_photo`.
            part: as for `denoise`.

        Raises:
            OutputError: it cannot be written.
        """
        run = self._runs.pop((target, part), None)
        if run is not None:
            run.write(modified_ns)

    def _keeps_flux(self, stack: Stack) -> bool:
        return stack.photometric if self._keep_flux is None else self._keep_flux

    def _denoised(self, page: Page, noise: StackNoise | None, stack: Stack, model: Model) -> Page:
        if page.ndim == 3:
            photo = Photo(pixels=np.ascontiguousarray(page[..., :3]))
            denoised = denoise(photo, model, self._options, device=self._device)
            page[..., :3] = denoised.photo.pixels
            return page
        if noise is None or noise.law is None:
            return page
        options = CountsOptions(
            strength=self._options.strength, keep_flux=self._keeps_flux(stack),
            tile=self._options.tile, max_memory=self._options.max_memory,
        )  # fmt: skip
        return denoise_counts(page, noise.law, model, options, device=self._device)


def _progress(done: Progress, part: Shard) -> Iterator[str]:
    if done.resumed and part.count == 1:
        yield f"{done.resumed} of {done.own} {done.called} taken from an interrupted run"
    if not done.is_last:
        waits = ", ".join(map(str, done.missing[:SHOWN]))
        more = f" and {len(done.missing) - SHOWN} more" if len(done.missing) > SHOWN else ""
        strange = "; shares made with other options do not count" * done.strange
        yield (
            f"{done.own} of its {done.blocks} {done.called} are done as share {part}; "
            + (f"the result waits for {waits}{more}{strange}" if waits else "nothing to do here")
        )


def _shortened(lines: list[str]) -> str:
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return "; ".join(lines[:SHOWN]) + more
