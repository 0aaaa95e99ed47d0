"""What `amsnet denoise` is asked to do with each photo of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from amsnet_cli.batch.destination import Destination
from amsnet_cli.inference.denoise import DenoiseOptions
from amsnet_cli.inference.stack_noise import Detector
from amsnet_cli.photos.formats.raw import RawOptions


@dataclass(frozen=True, kw_only=True)
class PhotoSettings:
    """What is asked for, for all photos of a batch. It can be sent to another machine.

    Attributes:
        weights: as asked for, or a model file; None for the bundled weights.
        options: of the denoising.
        device: name of where to compute, see `choose_device`.
        raw: how RAW files are developed.
        before_development: denoise RAW files before they are developed. What becomes DNG is.
        pages: places of the first axis of stacks that are denoised and kept.
        keep_flux: whether fluxes in stacks are kept; None for FITS alone.
        detector: what is known of the noise of stacks.
        destination: of the results.
        depth: bits per channel to write; None for as many as the photo has.
        strip_metadata: write no EXIF, XMP and IPTC.
        sidecar: copy XMP sidecars beside results that are at the same stage as their photos.
        keep_time: give the result the photo's time of modification.
        force: overwrite.
        planned: results were looked for beforehand; one that is there now was written by a worker
            that died before it could say so, and is replaced.
        report: compare each photo with its result.
        pictured: results that the report shows with pictures.
        measure_noise: estimate the noise before and after.
        verbose: note what was measured, chosen and mended.
    """

    weights: str | Path | None
    options: DenoiseOptions
    device: str
    raw: RawOptions
    before_development: bool
    pages: slice = field(default_factory=lambda: slice(None))
    keep_flux: bool | None = None
    detector: Detector = field(default_factory=Detector)
    destination: Destination
    depth: int | None
    strip_metadata: bool
    sidecar: bool
    keep_time: bool
    force: bool
    planned: bool = False
    report: bool
    pictured: frozenset[Path]
    measure_noise: bool
    verbose: bool
