"""What `amsnet denoise` does with each photo: read, denoise, write."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from amsnet_cli.batch.job import Job
from amsnet_cli.batch.stack_denoiser import StackDenoiser
from amsnet_cli.cli.photo_info import PhotoInfo, mosaic_notes, noise_note, photo_notes
from amsnet_cli.cli.photo_settings import PhotoSettings
from amsnet_cli.device import choose_device
from amsnet_cli.errors import OutputError, PhotoError, UsageError
from amsnet_cli.inference.denoise import denoise
from amsnet_cli.inference.model_choice import ModelChooser
from amsnet_cli.inference.mosaic_noise import UnknownNoiseError
from amsnet_cli.inference.mosaic_photos import MosaicDenoiser
from amsnet_cli.inference.noise_estimate import photo_noise_level
from amsnet_cli.photos.exif import camera_of, with_software
from amsnet_cli.photos.formats import WRITABLE
from amsnet_cli.photos.formats.dng import FORMAT as DNG
from amsnet_cli.photos.formats.raw import FORMAT as RAW
from amsnet_cli.photos.formats.raw import read as read_raw
from amsnet_cli.photos.mosaic import MosaicPhoto
from amsnet_cli.photos.photo import Photo, without_metadata
from amsnet_cli.photos.read import (
    after_development,
    decode,
    read_mosaic_or_photo,
    read_mosaic_photo,
    read_photo,
)
from amsnet_cli.photos.sidecars import check_sidecars, copy_sidecars, find_sidecars
from amsnet_cli.photos.write import (
    check_depth,
    check_output,
    not_kept,
    with_fitting_depth,
    write_photo,
)
from amsnet_cli.report.comparison import Comparison, compare
from amsnet_cli.software_tag import software_note, tag_software
from amsnet_cli.stacks.stack import StackPhoto

Progress: TypeAlias = AbstractContextManager[Callable[[float], None]]
"""Yields a function to call with the fraction done."""


class PhotoSteps:
    """The steps of `run_jobs`.

    Args:
        settings: of all photos.
        progress: shows that of a photo.
        decode: of photos that are not RAW.

    Attributes:
        device: where photos are denoised.

    Raises:
        DeviceError: there is no such device.
        WeightsError: the weights are missing or damaged.
    """

    def __init__(
        self,
        settings: PhotoSettings,
        progress: Callable[[Job], Progress] = lambda job: nullcontext(lambda fraction: None),
        decode: Callable[[Path, bytes], Photo] = decode,
    ) -> None:
        self._settings, self._progress, self._decode = settings, progress, decode
        self.device = choose_device(settings.device)
        self._mosaics = MosaicDenoiser(
            settings.weights, settings.options, settings.raw, device=self.device
        )
        self._models = ModelChooser(self._mosaics.for_developed)
        self._stacks = StackDenoiser(
            settings.options, self.device, chosen=settings.pages, keep_flux=settings.keep_flux,
            detector=settings.detector,
        )  # fmt: skip
        self.weights = self._models.name
        self._cameras: dict[Job, tuple[str | None, int | None]] = {}
        self._modified_ns: dict[Job, int] = {}
        self._sidecars: dict[Job, list[tuple[Path, Path]]] = {}
        self._notes: dict[Job, list[str]] = {}

    def read(self, job: Job) -> Photo:
        """Read a photo; anything that would prevent writing its result is an error now.

        Raises:
            PhotoError: it cannot be read.
            OutputError: the result could not be written.
        """
        self._notes[job] = []
        self._settings.destination.make_subfolder(job.target.parent)
        stack = self._stacks.open(job.source, job.target)
        replaces = self._settings.force or self._settings.planned
        try:
            suffixes = stack.stack.suffixes if stack else WRITABLE
            check_output(job.target, force=replaces, suffixes=suffixes)
        except OSError as error:
            raise OutputError(f"{job.target}: {error.strerror}", "choose another OUT") from error
        to_dng = is_dng(job.target)
        if to_dng and self._settings.strip_metadata:
            raise UsageError("DNG files keep their metadata", "leave out --strip-metadata")
        if to_dng and self._settings.options.crop:
            raise UsageError(
                "DNG files keep the whole mosaic", "leave out --crop and crop it as you develop it"
            )
        if self._settings.sidecar:
            self._sidecars[job] = self._suitable_sidecars(job)
        photo = stack or self._read(job)
        if self._settings.keep_time:
            try:
                self._modified_ns[job] = job.source.stat().st_mtime_ns
            except OSError as error:
                raise PhotoError(f"{job.source}: cannot be read ({error.strerror})") from error
        self._cameras[job] = camera_of(photo.exif)
        if isinstance(photo, StackPhoto):
            return self._checked_stack(photo)
        photo = self._as_asked(job, photo)
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
                photo = read_raw(job.source, photo.content, self._settings.raw)
                photo = self._as_asked(job, after_development(job.source, photo, error))
        self._note(job, photo)
        self._mosaics.refuse_developed(job.source)
        model, reason = self._models.choose(*self._cameras.pop(job))
        with self._progress(job) as progress:
            denoised = denoise(
                photo, model, self._settings.options, device=self.device, progress=progress,
                in_place=True,
            )  # fmt: skip
        noise = None
        if self._settings.measure_noise or self._settings.report:
            noise = denoised.noise_before, denoised.noise_after
        if self._settings.verbose:
            self._notes[job] += photo_notes(photo, denoised.hot_pixels, noise)
            self._notes[job] += noise_note(denoised)
        info = PhotoInfo(
            weights=denoised.model.name, reason=reason, hot_pixels=denoised.hot_pixels, noise=noise,
            comparison=self._compare(job, denoised.noisy, denoised.photo, noise),
            notes=tuple(self._notes.pop(job)),
        )  # fmt: skip
        clean = (
            denoised.photo
            if self._settings.strip_metadata
            else tag_software(denoised, self._settings.options)
        )
        return clean, info

    def _checked_stack(self, photo: StackPhoto) -> StackPhoto:
        asked = self._settings
        if asked.depth or asked.strip_metadata or asked.sidecar:
            raise UsageError(
                "stacks keep their type and metadata",
                "leave out --depth, --strip-metadata and --sidecar",
            )
        return photo

    def _denoise_stack(self, job: Job, photo: StackPhoto) -> tuple[Photo, PhotoInfo]:
        self._mosaics.refuse_developed(job.source)
        model, _ = self._models.choose(*self._cameras.pop(job))
        with self._progress(job) as progress:
            denoised = self._stacks.denoise(photo, job.target, model, progress, job.part)
        info = PhotoInfo(
            weights=denoised.weights, reason=denoised.reason, hot_pixels=0, noise=None,
            comparison=None, notes=(*self._notes.pop(job), *denoised.notes),
            waits=not denoised.is_last,
        )  # fmt: skip
        return denoised.photo, info

    def _read(self, job: Job) -> Photo:
        if is_dng(job.target):
            photo: Photo = read_mosaic_photo(job.source)
        elif self._settings.before_development:
            photo = read_mosaic_or_photo(job.source, self._settings.raw, self._decode)
        else:
            return read_photo(job.source, self._settings.raw, self._decode)
        if not isinstance(photo, MosaicPhoto):
            return photo
        self._mosaics.check(job.source)
        return photo

    def _as_asked(self, job: Job, photo: Photo) -> Photo:
        """Set the depth, and remove metadata, if that was asked for."""
        if self._settings.depth:
            photo = replace(photo, bits=self._settings.depth)
        else:
            photo = with_fitting_depth(photo, job.target)
        return without_metadata(photo) if self._settings.strip_metadata else photo

    def _note(self, job: Job, photo: Photo) -> None:
        self._notes[job].extend((*photo.notes, *not_kept(photo, job.target)))

    def _denoise_mosaic(self, job: Job, photo: MosaicPhoto) -> tuple[Photo, PhotoInfo]:
        to_dng = is_dng(job.target)
        with self._progress(job) as progress:
            denoised = self._mosaics.denoise(photo, progress, to_dng=to_dng)
        self._cameras.pop(job)
        clean: Photo = denoised.photo
        measured = self._settings.report or self._settings.measure_noise
        developed = noisy = None
        if measured or not to_dng:
            developed = self._mosaics.develop(job.source, denoised.photo)
        noise, comparison = None, None
        if measured and developed:
            noisy = self._mosaics.develop(job.source, photo)
            noise = photo_noise_level(noisy), photo_noise_level(developed)
            comparison = self._compare(job, noisy, developed, noise)
        if not to_dng and developed:
            clean = self._as_asked(job, replace(developed, bits=photo.depth))
            clean = replace(clean, notes=(*photo.notes, *clean.notes))
        self._note(job, clean)
        if self._settings.verbose:
            self._notes[job] += (
                *mosaic_notes(denoised),
                *photo_notes(photo, denoised.hot_pixels, noise),
            )
        if not self._settings.strip_metadata:
            note = software_note(denoised.weights, self._settings.options)
            clean = replace(clean, exif=with_software(clean.exif, note))
        info = PhotoInfo(
            weights=denoised.weights, reason=denoised.reason, hot_pixels=denoised.hot_pixels,
            noise=noise,
            comparison=comparison, notes=tuple(self._notes.pop(job)),
        )  # fmt: skip
        return clean, info

    def write(self, job: Job, photo: Photo) -> None:
        """Write a result.

        Raises:
            OutputError: it cannot be written.
        """
        if isinstance(photo, StackPhoto):
            self._stacks.write(job.target, self._modified_ns.get(job), job.part)
            return
        write_photo(photo, job.target, modified_ns=self._modified_ns.get(job))
        copy_sidecars(self._sidecars.pop(job, []))

    def _suitable_sidecars(self, job: Job) -> list[tuple[Path, Path]]:
        """Find the sidecars to copy: settings for RAW do not suit developed photos."""
        sidecars = find_sidecars(job.source, job.target)
        if job.source.suffix.lower() in RAW.suffixes and not is_dng(job.target):
            if sidecars:
                name = sidecars[0][0].name
                self._notes[job].append(f"{name} is not copied, as it is for RAW; write DNG")
            return []
        check_sidecars(sidecars, force=self._settings.force)
        return sidecars

    def _compare(
        self, job: Job, noisy: Photo, clean: Photo, noise: tuple[float, float] | None
    ) -> Comparison | None:
        if not self._settings.report:
            return None
        pictures = job.target in self._settings.pictured
        return compare(noisy, clean, noise=noise, pictures=pictures)


def is_dng(target: Path) -> bool:
    """Return whether a photo is to be written as DNG."""
    return target.suffix.lower() in DNG.suffixes
