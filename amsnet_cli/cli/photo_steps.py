"""What `amsnet denoise` does with each photo: read, denoise, write."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch

from amsnet_cli import __version__
from amsnet_cli.batch.destination import Destination
from amsnet_cli.batch.plan import Job
from amsnet_cli.cli.console import progress_bar, say
from amsnet_cli.cli.model_choice import ModelChooser
from amsnet_cli.cli.mosaic_denoiser import MosaicDenoiser
from amsnet_cli.errors import OutputError, PhotoError, UsageError
from amsnet_cli.inference.denoise import Denoised, DenoiseOptions, denoise
from amsnet_cli.inference.photo_noise import photo_noise_level
from amsnet_cli.photos.exif import camera_of, with_software
from amsnet_cli.photos.formats.dng import FORMAT as DNG
from amsnet_cli.photos.formats.raw import FORMAT as RAW
from amsnet_cli.photos.formats.raw import RawOptions, develop
from amsnet_cli.photos.mosaic import MosaicPhoto, NotAMosaicError
from amsnet_cli.photos.photo import Photo, without_metadata
from amsnet_cli.photos.read import read_mosaic_photo, read_photo
from amsnet_cli.photos.write import check_depth, check_output, not_kept, write_photo
from amsnet_cli.report.comparison import Comparison, compare
from amsnet_cli.report.html import MAX_SHOWN
from amsnet_cli.software_tag import tag_software


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
        before_development: denoise RAW files before development, also for other formats than DNG.
        destination: of the results.
        depth: bits per channel to write; None for as many as the photo has.
        strip_metadata: write no EXIF, XMP and IPTC.
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
    before_development: bool
    destination: Destination
    depth: int | None
    strip_metadata: bool
    keep_time: bool
    force: bool
    report: bool
    measure_noise: bool
    label: Callable[[Job], str]
    quiet: bool
    verbose: bool
    _cameras: dict[Job, tuple[str | None, int | None]] = field(default_factory=dict)
    _modified_ns: dict[Job, int] = field(default_factory=dict)
    _shown: int = 0

    def read(self, job: Job) -> Photo:
        """Read a photo; anything that would prevent writing its result is an error now.

        Raises:
            PhotoError: it cannot be read.
            OutputError: the result could not be written.
        """
        self.destination.make_subfolder(job.target.parent)
        try:
            check_output(job.target, force=self.force)
        except OSError as error:
            raise OutputError(f"{job.target}: {error.strerror}", "choose another OUT") from error
        photo = self._read(job)
        if self.keep_time:
            try:
                self._modified_ns[job] = job.source.stat().st_mtime_ns
            except OSError as error:
                raise PhotoError(f"{job.source}: cannot be read ({error.strerror})") from error
        self._cameras[job] = camera_of(photo.exif)
        if self.depth:
            photo = replace(photo, bits=self.depth)
        if self.strip_metadata:
            photo = without_metadata(photo)
        check_depth(photo, job.target)
        return photo

    def denoise(self, job: Job, photo: Photo) -> tuple[Photo, PhotoInfo]:
        """Denoise a photo.

        Raises:
            AmsnetError: see `inference.denoise.denoise`.
        """
        if not self.quiet:
            for note in (*photo.notes, *not_kept(photo, job.target)):
                say(f"{job.source}: {note}")
        if isinstance(photo, MosaicPhoto):
            return self._denoise_mosaic(job, photo)
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
            for line in _details(photo, denoised, noise):
                say(f"{job.source}: {line}")
        clean = denoised.photo if self.strip_metadata else tag_software(denoised, self.options)
        return clean, info

    def _read(self, job: Job) -> Photo:
        to_dng = job.target.suffix.lower() in DNG.suffixes
        if not to_dng and not self.before_development:
            return read_photo(job.source, self.raw)
        if to_dng and self.strip_metadata:
            raise UsageError("DNG files keep their metadata", "leave out --strip-metadata")
        try:
            return read_mosaic_photo(job.source)
        except NotAMosaicError as error:
            if to_dng:
                raise
            photo = read_photo(job.source, self.raw)
            if job.source.suffix.lower() not in RAW.suffixes:
                return photo
            note = f"denoised after development ({error.what.removeprefix(f'{job.source}: ')})"
            return replace(photo, notes=(*photo.notes, note))

    def _denoise_mosaic(self, job: Job, photo: MosaicPhoto) -> tuple[Photo, PhotoInfo]:
        self._cameras.pop(job)
        with progress_bar(self.label(job), quiet=self.quiet) as progress:
            denoised, name, reason = self.mosaics.denoise(photo, progress)
        comparison, noise = None, None
        clean: Photo = denoised
        if job.target.suffix.lower() not in DNG.suffixes or self.report:
            developed = develop(job.source, photo.content, denoised.mosaic, self.raw)
            if self.report or self.measure_noise:
                noisy = develop(job.source, photo.content, photo.mosaic, self.raw)
                noise = photo_noise_level(noisy), photo_noise_level(developed)
                comparison = self._compare(noisy, developed, noise) if self.report else None
            if job.target.suffix.lower() not in DNG.suffixes:
                clean = replace(developed, bits=photo.depth)
                if self.strip_metadata:
                    clean = without_metadata(clean)
                else:
                    note = f"amsnet {__version__} ({name})"
                    clean = replace(clean, exif=with_software(clean.exif, note))
        info = PhotoInfo(
            weights=name, reason=reason, hot_pixels=0, noise=noise, comparison=comparison
        )
        return clean, info

    def write(self, job: Job, photo: Photo) -> None:
        """Write a result.

        Raises:
            OutputError: it cannot be written.
        """
        write_photo(photo, job.target, modified_ns=self._modified_ns.get(job))

    def _compare(self, noisy: Photo, clean: Photo, noise: tuple[float, float] | None) -> Comparison:
        pictures = self._shown < MAX_SHOWN
        self._shown += pictures
        return compare(noisy, clean, noise=noise, pictures=pictures)


def _details(photo: Photo, denoised: Denoised, noise: tuple[float, float] | None) -> Iterator[str]:
    """What was measured, chosen and mended, as lines for people."""
    camera, iso = camera_of(photo.exif)
    if camera:
        yield f"taken by {camera}{f' at ISO {iso}' * (iso is not None)}"
    if denoised.hot_pixels:
        yield f"hot pixels mended: {denoised.hot_pixels}"
    before, after = noise or (math.nan, math.nan)
    if math.isnan(before):
        yield "its noise cannot be measured"
    else:
        yield f"noise {before:.1f} before, {after:.1f} after, on a scale of 255"
