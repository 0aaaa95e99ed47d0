"""What `amsnet denoise` does with each photo: read, denoise, write."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from amsnet_cli.batch.destination import Destination
from amsnet_cli.batch.plan import Job
from amsnet_cli.cli.console import progress_bar, say
from amsnet_cli.cli.model_choice import ModelChooser
from amsnet_cli.cli.mosaic_denoiser import DenoisedMosaic, MosaicDenoiser
from amsnet_cli.cli.stack_denoiser import StackDenoiser
from amsnet_cli.errors import OutputError, PhotoError, UsageError
from amsnet_cli.inference.denoise import DenoiseOptions, denoise
from amsnet_cli.inference.mosaic_noise import UnknownNoiseError
from amsnet_cli.inference.photo_noise import photo_noise_level
from amsnet_cli.photos.exif import camera_of, with_software
from amsnet_cli.photos.formats import WRITABLE
from amsnet_cli.photos.formats.dng import FORMAT as DNG
from amsnet_cli.photos.formats.raw import FORMAT as RAW
from amsnet_cli.photos.formats.raw import RawOptions, profile_of
from amsnet_cli.photos.formats.raw import read as read_raw
from amsnet_cli.photos.mosaic import MosaicPhoto
from amsnet_cli.photos.photo import Photo, without_metadata
from amsnet_cli.photos.read import (
    after_development,
    read_mosaic_or_photo,
    read_mosaic_photo,
    read_photo,
)
from amsnet_cli.photos.sidecars import check_sidecars, copy_sidecars, find_sidecars
from amsnet_cli.photos.write import check_depth, check_output, not_kept, write_photo
from amsnet_cli.report.comparison import Comparison, compare
from amsnet_cli.report.html import MAX_SHOWN
from amsnet_cli.software_tag import software_note, tag_software
from amsnet_cli.stacks.stack import StackPhoto


@dataclass(frozen=True, kw_only=True)
class PhotoInfo:
    """What is known of a photo once it is denoised.

    Attributes:
        weights: name of the model that denoised it.
        reason: why that model, if there was a choice.
        hot_pixels: values of its pixels that were mended.
        noise: estimated noise level before and after, on a scale of 255; None if not asked for.
        comparison: for the report; None without one.
    """

    weights: str
    reason: str
    hot_pixels: int
    noise: tuple[float, float] | None
    comparison: Comparison | None


@dataclass(kw_only=True)
class PhotoSteps:
    """The steps of `run_jobs`.

    Attributes:
        models: choose the model of each photo.
        options: of the denoising.
        device: where to compute.
        raw: how RAW files are developed.
        mosaics: denoises mosaics of RAW files.
        stacks: denoises stacks.
        before_development: denoise RAW files before they are developed. What becomes DNG is.
        destination: of the results.
        depth: bits per channel to write; None for as many as the photo has.
        strip_metadata: write no EXIF, XMP and IPTC.
        sidecar: copy XMP sidecars beside results that are at the same stage as their photos.
        keep_time: give the result the photo's time of modification.
        force: overwrite.
        report: compare each photo with its result.
        measure_noise: estimate the noise before and after.
        label: names a photo in the progress bar.
        quiet: no notes, no progress bar.
        verbose: say what was measured, chosen and mended.
    """

    models: ModelChooser
    options: DenoiseOptions
    device: torch.device
    raw: RawOptions
    mosaics: MosaicDenoiser
    stacks: StackDenoiser
    before_development: bool
    destination: Destination
    depth: int | None
    strip_metadata: bool
    sidecar: bool
    keep_time: bool
    force: bool
    report: bool
    measure_noise: bool
    label: Callable[[Job], str]
    quiet: bool
    verbose: bool
    _cameras: dict[Job, tuple[str | None, int | None]] = field(default_factory=dict)
    _modified_ns: dict[Job, int] = field(default_factory=dict)
    _sidecars: dict[Job, list[tuple[Path, Path]]] = field(default_factory=dict)
    _shown: int = 0

    def read(self, job: Job) -> Photo:
        """Read a photo; anything that would prevent writing its result is an error now.

        Raises:
            PhotoError: it cannot be read.
            OutputError: the result could not be written.
        """
        self.destination.make_subfolder(job.target.parent)
        stack = self.stacks.open(job.source, job.target)
        try:
            suffixes = stack.stack.suffixes if stack else WRITABLE
            check_output(job.target, force=self.force, suffixes=suffixes)
        except OSError as error:
            raise OutputError(f"{job.target}: {error.strerror}", "choose another OUT") from error
        to_dng = is_dng(job.target)
        if to_dng and self.strip_metadata:
            raise UsageError("DNG files keep their metadata", "leave out --strip-metadata")
        if to_dng and self.options.crop:
            raise UsageError(
                "DNG files keep the whole mosaic", "leave out --crop and crop it as you develop it"
            )
        if self.sidecar:
            self._sidecars[job] = self._suitable_sidecars(job)
        photo = stack or self._read(job)
        if self.keep_time:
            try:
                self._modified_ns[job] = job.source.stat().st_mtime_ns
            except OSError as error:
                raise PhotoError(f"{job.source}: cannot be read ({error.strerror})") from error
        self._cameras[job] = camera_of(photo.exif)
        if isinstance(photo, StackPhoto):
            return self._checked_stack(photo)
        photo = self._as_asked(photo)
        check_depth(photo, job.target)
        return photo

    def denoise(self, job: Job, photo: Photo) -> tuple[Photo, PhotoInfo]:
        """Denoise a photo.

        Raises:
            AmsnetError: see `inference.denoise.denoise` and `MosaicDenoiser.denoise`.
        """
        if isinstance(photo, StackPhoto):
            return self._denoise_stack(job, photo)
        if isinstance(photo, MosaicPhoto):
            try:
                return self._denoise_mosaic(job, photo)
            except UnknownNoiseError as error:
                if is_dng(job.target):
                    raise
                photo = read_raw(job.source, photo.content, self.raw)
                photo = self._as_asked(after_development(job.source, photo, error))
        self._say_notes(job, photo)
        self.mosaics.refuse_developed(job.source)
        model, reason = self.models.choose(*self._cameras.pop(job))
        with progress_bar(self.label(job), quiet=self.quiet) as progress:
            denoised = denoise(photo, model, self.options, device=self.device, progress=progress)
        if denoised.model is not model:
            reason = "its noise is white"
        noise = None
        if self.measure_noise or self.report:
            noise = denoised.noise_before, denoised.noise_after
        info = PhotoInfo(
            weights=denoised.model.name, reason=reason, hot_pixels=denoised.hot_pixels, noise=noise,
            comparison=self._compare(denoised.noisy, denoised.photo, noise)
            if self.report
            else None,
        )  # fmt: skip
        if self.verbose:
            for line in _details(photo, denoised.hot_pixels, noise):
                say(f"{job.source}: {line}")
        clean = denoised.photo if self.strip_metadata else tag_software(denoised, self.options)
        return clean, info

    def _checked_stack(self, photo: StackPhoto) -> StackPhoto:
        if self.depth or self.strip_metadata or self.sidecar:
            raise UsageError(
                "stacks keep their type and metadata",
                "leave out --depth, --strip-metadata and --sidecar",
            )
        return photo

    def _denoise_stack(self, job: Job, photo: StackPhoto) -> tuple[Photo, PhotoInfo]:
        self.mosaics.refuse_developed(job.source)
        model, _ = self.models.choose(*self._cameras.pop(job))
        with progress_bar(self.label(job), quiet=self.quiet) as progress:
            denoised = self.stacks.denoise(photo, job.target, model, progress)
        if not self.quiet:
            for note in denoised.notes:
                say(f"{job.source}: {note}")
        info = PhotoInfo(
            weights=denoised.weights, reason=denoised.reason, hot_pixels=0, noise=None,
            comparison=None,
        )  # fmt: skip
        return denoised.photo, info

    def _read(self, job: Job) -> Photo:
        if is_dng(job.target):
            photo: Photo = read_mosaic_photo(job.source)
        elif self.before_development:
            photo = read_mosaic_or_photo(job.source, self.raw)
        else:
            return read_photo(job.source, self.raw)
        if not isinstance(photo, MosaicPhoto):
            return photo
        self.mosaics.check(job.source)
        if is_dng(job.target):
            return photo
        return replace(photo, icc=profile_of(photo.mosaic, self.raw))

    def _as_asked(self, photo: Photo) -> Photo:
        """Set the depth, and remove metadata, if that was asked for."""
        if self.depth:
            photo = replace(photo, bits=self.depth)
        return without_metadata(photo) if self.strip_metadata else photo

    def _say_notes(self, job: Job, photo: Photo) -> None:
        if not self.quiet:
            for note in (*photo.notes, *not_kept(photo, job.target)):
                say(f"{job.source}: {note}")

    def _denoise_mosaic(self, job: Job, photo: MosaicPhoto) -> tuple[Photo, PhotoInfo]:
        to_dng = is_dng(job.target)
        with progress_bar(self.label(job), quiet=self.quiet) as progress:
            denoised = self.mosaics.denoise(photo, progress, to_dng=to_dng)
        self._cameras.pop(job)
        clean: Photo = denoised.photo
        measured = self.report or self.measure_noise
        developed = noisy = None
        if measured or not to_dng:
            developed = self.mosaics.develop(job.source, denoised.photo)
        noise, comparison = None, None
        if measured and developed:
            noisy = self.mosaics.develop(job.source, photo)
            noise = photo_noise_level(noisy), photo_noise_level(developed)
            comparison = self._compare(noisy, developed, noise) if self.report else None
        if not to_dng and developed:
            clean = self._as_asked(replace(developed, bits=photo.depth))
            clean = replace(clean, notes=(*photo.notes, *clean.notes))
        self._say_notes(job, clean)
        if self.verbose:
            for line in (*_laws(denoised), *_details(photo, denoised.hot_pixels, noise)):
                say(f"{job.source}: {line}")
        if not self.strip_metadata:
            note = software_note(denoised.weights, self.options)
            clean = replace(clean, exif=with_software(clean.exif, note))
        info = PhotoInfo(
            weights=denoised.weights, reason=denoised.reason, hot_pixels=denoised.hot_pixels,
            noise=noise,
            comparison=comparison,
        )  # fmt: skip
        return clean, info

    def write(self, job: Job, photo: Photo) -> None:
        """Write a result.

        Raises:
            OutputError: it cannot be written.
        """
        if isinstance(photo, StackPhoto):
            self.stacks.write(job.target, modified_ns=self._modified_ns.get(job))
            return
        write_photo(photo, job.target, modified_ns=self._modified_ns.get(job))
        copy_sidecars(self._sidecars.pop(job, []))

    def _suitable_sidecars(self, job: Job) -> list[tuple[Path, Path]]:
        """Find the sidecars to copy: settings for RAW do not suit developed photos."""
        sidecars = find_sidecars(job.source, job.target)
        if job.source.suffix.lower() in RAW.suffixes and not is_dng(job.target):
            if sidecars and not self.quiet:
                say(f"{sidecars[0][0]}: not copied, as its settings are for RAW; write DNG")
            return []
        check_sidecars(sidecars, force=self.force)
        return sidecars

    def _compare(self, noisy: Photo, clean: Photo, noise: tuple[float, float] | None) -> Comparison:
        pictures = self._shown < MAX_SHOWN
        self._shown += pictures
        return compare(noisy, clean, noise=noise, pictures=pictures)


def is_dng(target: Path) -> bool:
    """Return whether a photo is to be written as DNG."""
    return target.suffix.lower() in DNG.suffixes


def _details(photo: Photo, hot_pixels: int, noise: tuple[float, float] | None) -> Iterator[str]:
    """What was measured, chosen and mended, as lines for people."""
    camera, iso = camera_of(photo.exif)
    if camera:
        yield f"taken by {camera}{f' at ISO {iso}' * (iso is not None)}"
    if hot_pixels:
        yield f"hot pixels mended: {hot_pixels}"
    before, after = noise or (math.nan, math.nan)
    if math.isnan(before):
        yield "its noise cannot be measured"
    else:
        yield f"noise {before:.1f} before, {after:.1f} after, on a scale of 255"


def _laws(denoised: DenoisedMosaic) -> Iterator[str]:
    """The noise of a mosaic, as lines for people."""
    names = ("red", "green", "blue") if len(denoised.laws) == 3 else ("all colours",)
    for name, law in zip(names, denoised.laws, strict=False):
        yield f"variance of {name}: {float(law.a):.2e} x + {float(law.b):.1e} ({denoised.reason})"
