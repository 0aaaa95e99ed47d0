"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Weights = Annotated[
    str | None,
    typer.Option(
        "-w", "--weights", metavar="NAME|FILE",
        help="A fitted model, published weights, or a model file. (default: the bundled weights)",
    ),
]  # fmt: skip
WeightsOrAuto = Annotated[
    str | None,
    typer.Option(
        "-w", "--weights", metavar="NAME|FILE|auto",
        help="A fitted model, published weights, or a model file; auto takes for each photo the "
        "model that is fitted to its camera, if there is one. (default: the bundled weights)",
    ),
]  # fmt: skip
Device = Annotated[
    str,
    typer.Option(envvar="AMSNET_DEVICE", help="auto, cpu, cuda, cuda:N or mps."),
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")]
Force = Annotated[bool, typer.Option("-f", "--force", help="Replace what is there.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only say what went wrong.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Masks = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=255,
        help="Complementary masks; 1 is the single pass. (default: as the model says)",
    ),
]
InferStride = Annotated[
    int | None,
    typer.Option(
        "--stride", min=1,
        help="Of the pixel-shuffle downsampling around the masks. (default: as the model says)",
    ),
]  # fmt: skip
Repeats = Annotated[
    int | None,
    typer.Option(min=1, help="Independent sets of masks averaged. (default: as the model says)"),
]
Refine = Annotated[
    float | None,
    typer.Option(
        min=0, max=1,
        help="Share of noisy pixels put back by random replacement refinement; the paper's is "
        "0.16. (default: as the model says)",
    ),
]  # fmt: skip
Tile = Annotated[
    str,
    typer.Option(
        metavar="auto|N", help="Longest side of a tile in pixels; less needs less memory."
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory", metavar="SIZE", rich_help_panel="Memory and speed",
        help="What the whole program may take, as 2G or 500M; a JPEG of 24 megapixels needs "
        "750M. (default: what is free)",
    ),
]  # fmt: skip
Strength = Annotated[
    str,
    typer.Option(
        metavar="SHARE",
        help="1 is what the network says, 0 leaves the photo as it is; auto takes back what was "
        "structure and not noise, and sets the brightness of lopsided noise right.",
    ),
]
