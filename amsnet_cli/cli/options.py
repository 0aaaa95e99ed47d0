"""Options that several commands share, the parsers of their values, and which exclude each other.

A parser raises a `UsageError`, which the command line prints in one line (exit code 2).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import typer

from amsnet_cli.batch.shard import Shard as ShardOfPhotos
from amsnet_cli.batch.shard import parse_shard
from amsnet_cli.errors import UsageError

_MEMORY_AND_SPEED = "Memory and speed"


class Region(NamedTuple):
    """A part of an upright picture, in pixels from its top left corner."""

    x: int
    y: int
    width: int
    height: int


def parse_strength(text: str) -> float | None:
    """Parse --strength: a number in [0, 2], or auto (None)."""
    if text == "auto":
        return None
    try:
        strength = float(text)
    except ValueError:
        strength = math.nan
    if not 0 <= strength <= 2:
        raise UsageError(f"--strength {text}: not between 0 and 2", "use --strength auto")
    return strength


def parse_tile(text: str) -> int:
    """Parse --tile: a side in pixels, or auto (0)."""
    if text == "auto":
        return 0
    if not (text.isascii() and text.isdecimal()):
        raise UsageError(f"--tile {text}: not a number of pixels", "use --tile auto")
    return int(text)


def parse_memory(text: str) -> int:
    """Parse --max-memory: bytes, with K, M, G or T for powers of 1000."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", text.strip(), re.IGNORECASE | re.ASCII)
    if not match:
        raise UsageError(f"--max-memory {text}: not a size", "use for example 2G or 500M")
    return int(float(match[1]) * 1000 ** " KMGT".index(match[2].upper() or " "))


def parse_crop(text: str) -> Region:
    """Parse --crop: X,Y,WIDTH,HEIGHT."""
    match = re.fullmatch(r"(\d+),(\d+),(\d+),(\d+)", text, re.ASCII)
    if not match:
        raise UsageError(f"--crop {text}: not a region", "use --crop X,Y,WIDTH,HEIGHT in pixels")
    return Region(*map(int, match.groups()))


def parse_depth(text: str) -> Literal[8, 16, 32]:
    """Parse --depth: 8, 16 or 32 bits per channel."""
    depths: dict[str, Literal[8, 16, 32]] = {"8": 8, "16": 16, "32": 32}
    if text not in depths:
        raise UsageError(f"--depth {text}: not a depth", "use --depth 8, 16 or 32")
    return depths[text]


def exclude_each_other(options: Mapping[str, object]) -> None:
    """Refuse more than one of some options.

    Args:
        options: what was given, by name; nothing, where it is false.

    Raises:
        UsageError: several were.
    """
    given = [option for option, value in options.items() if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other", "give one of them")


Weights = Annotated[
    str | None,
    typer.Option(
        "-w", "--weights", metavar="NAME|FILE",
        help="Name of published weights or of a fitted model, or a model file. (default: the "
        "bundled weights)",
    ),
]  # fmt: skip
WeightsOrAuto = Annotated[
    str | None,
    typer.Option(
        "-w", "--weights", metavar="NAME|FILE|auto",
        help="Name of published weights or of a fitted model, or a model file; auto uses for each "
        "photo the model fitted to its camera, if there is one. (default: the bundled weights)",
    ),
]  # fmt: skip
Device = Annotated[
    str,
    typer.Option(envvar="AMSNET_DEVICE", help="auto, cpu, cuda, cuda:N or mps."),
]
Devices = Annotated[
    str,
    typer.Option(
        envvar="AMSNET_DEVICE",
        help="auto, cpu, mps, cuda, cuda:N, or several as cuda:0,2; auto and cuda use all GPUs.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")]
Force = Annotated[bool, typer.Option("-f", "--force", help="Overwrite existing files.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print only errors.")]
Verbose = Annotated[
    bool,
    typer.Option("-v", "--verbose", help="Say what was measured, chosen and mended."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Masks = Annotated[
    int | None,
    typer.Option(
        min=1, max=255,
        help="Number of complementary masks; 1 for a single pass without masks. (default: as the "
        "model says)",
    ),
]  # fmt: skip
PdStride = Annotated[
    int | None,
    typer.Option(
        "--pd-stride", min=1,
        help="Stride of the pixel-shuffle downsampling. (default: as the model says)",
    ),
]  # fmt: skip
Repeats = Annotated[
    int | None,
    typer.Option(
        min=1, help="Independent mask sets that are averaged. (default: as the model says)"
    ),
]
Refine = Annotated[
    float | None,
    typer.Option(
        min=0, max=1,
        help="Share of pixels that random replacement refinement takes from the noisy photo; 0.16 "
        "in the paper. (default: as the model says)",
    ),
]  # fmt: skip
Ensemble = Annotated[
    int | None,
    typer.Option(
        min=1, max=8,
        help="Average over so many turned and mirrored copies: a little better, as many times as "
        "slow. (default: as the model says)",
    ),
]  # fmt: skip
Strength = Annotated[
    float | None,
    typer.Option(
        parser=parse_strength, metavar="auto|0..2",
        help="How much to denoise: what the measured noise is multiplied by; 0 keeps the photo, "
        "auto is 1. For weights that are not told the noise, at most 1: a share of what the "
        "network removes; auto also corrects brightness and sharpness. (default: auto)",
    ),
]  # fmt: skip
Noise = Annotated[
    float | None,
    typer.Option(
        min=0, max=255, metavar="SIGMA",
        help="Standard deviation of the noise, on a scale of 255, where it is known and white. "
        "(default: as measured)",
    ),
]  # fmt: skip
Tile = Annotated[
    int | None,
    typer.Option(
        parser=parse_tile, metavar="auto|N", rich_help_panel=_MEMORY_AND_SPEED,
        help="Longest side of a tile in pixels; smaller tiles need less memory. (default: auto)",
    ),
]  # fmt: skip
MaxMemory = Annotated[
    int | None,
    typer.Option(
        "--max-memory", parser=parse_memory, metavar="SIZE", rich_help_panel=_MEMORY_AND_SPEED,
        help="Memory limit of the whole program, as 2G or 500M; a JPEG of 24 megapixels needs "
        "800M. (default: all free memory)",
    ),
]  # fmt: skip
Jobs = Annotated[
    int | None,
    typer.Option(
        min=0, rich_help_panel=_MEMORY_AND_SPEED,
        help="Photos read ahead, and photos written in the background. (default: 1 on a CPU, "
        "beside a GPU up to 4 by cores and memory; 0 with --max-memory)",
    ),
]  # fmt: skip
RawStage = Annotated[
    Literal["mosaic", "developed"],
    typer.Option(
        "--raw",
        help="RAW files: denoise what the sensor recorded, the mosaic, and develop it then; or the "
        "developed photo. What holds no mosaic is denoised developed.",
    ),
]
Development = Annotated[
    Literal["auto", "camera", "linear"],
    typer.Option(
        "--develop",
        help="RAW files: camera uses the camera's white balance; auto estimates one where the file "
        "has none; linear keeps linear light, for further editing.",
    ),
]
Highlights = Annotated[
    Literal["clip", "blend", "rebuild"],
    typer.Option(help="RAW files: clip overexposed highlights to white, blend or rebuild them."),
]
_STACKS = "Stacks"
Pages = Annotated[
    str | None,
    typer.Option(
        metavar="FIRST:END:STEP", rich_help_panel=_STACKS,
        help="Denoise and keep only these places of a stack's first axis, counted from 0, as in "
        "Python. (default: all)",
    ),
]  # fmt: skip
Gain = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=_STACKS, help="Electrons per unit of the values. (default: as measured)"
    ),
]
ReadNoise = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=_STACKS,
        help="Read noise in electrons; needs --gain. (default: as measured)",
    ),
]
Dark = Annotated[
    str | None,
    typer.Option(
        metavar="VALUE|FILE", rich_help_panel=_STACKS,
        help="The value without light, or a file of dark frames. (default: as measured)",
    ),
]  # fmt: skip
KeepFlux = Annotated[
    bool | None,
    typer.Option(
        "--keep-flux/--no-keep-flux", rich_help_panel=_STACKS,
        help="Give back what surely is there, so that fluxes can be measured. (default: FITS only)",
    ),
]  # fmt: skip
Sidecar = Annotated[
    bool,
    typer.Option(
        "--sidecar",
        help="Copy XMP sidecars beside the results, where they suit: RAW to DNG, photo to photo.",
    ),
]
Shard = Annotated[
    ShardOfPhotos | None,
    typer.Option(
        parser=parse_shard, metavar="K/N|auto", rich_help_panel="Many machines",
        help="Denoise only the K-th of N parts of the photos, and of the pages of each Zarr "
        "folder; auto takes both from Slurm, Grid Engine, or RANK and WORLD_SIZE.",
    ),
]  # fmt: skip
