"""`amsnet submit`: files for benchmark servers."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amsnet_cli import __version__
from amsnet_cli.cli import options
from amsnet_cli.cli.console import print_result, progress_bar, reports_errors, say
from amsnet_cli.cli.denoise import parse_strength

if TYPE_CHECKING:
    from amsnet_cli.inference.denoise import DenoiseOptions
    from amsnet_cli.model import Model

app = typer.Typer(
    help="Denoise benchmark data, and write what its server accepts.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
@reports_errors
def sidd(
    benchmark: Annotated[
        Path,
        typer.Argument(metavar="BLOCKS", help="BenchmarkNoisyBlocksSrgb.mat, or its folder."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FILE", help="SubmitSrgb.csv for Kaggle, or SubmitSrgb.mat."
        ),
    ],
    weights: options.Weights = None,
    method: Annotated[
        str | None, typer.Option(help="The method's name in SubmitSrgb.mat. (default: amsnet)")
    ] = None,
    authors: Annotated[str, typer.Option(help="Their names in SubmitSrgb.mat.")] = "",
    masks: options.Masks = None,
    stride: options.InferStride = None,
    repeats: options.Repeats = None,
    refine: options.Refine = None,
    strength: options.Strength = "auto",
    seed: options.Seed = 0,
    device: options.Device = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Denoise SIDD's sRGB benchmark."""
    model, wishes = _settled(weights, masks, stride, repeats, refine, strength, seed)

    from amsnet_cli.device import choose_device
    from amsnet_cli.research.submission import submit_sidd

    about = {
        "MethodName": method or f"amsnet {__version__}, {model.name}",
        "Authors": authors,
        "PaperTitle": "",
        "Venue": "",
        "MachineSpecs": f"{platform.machine()} {platform.processor()}, {device}",
    }
    with progress_bar(benchmark.name, quiet=quiet) as progress:
        submit_sidd(
            benchmark, output, model, wishes,
            about=about, device=choose_device(device), force=force, progress=progress,
        )  # fmt: skip
    print_result(output)


@app.command()
@reports_errors
def dnd(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="With info.mat and images_srgb/.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="A folder.")],
    weights: options.Weights = None,
    masks: options.Masks = None,
    stride: options.InferStride = None,
    repeats: options.Repeats = None,
    refine: options.Refine = None,
    strength: options.Strength = "auto",
    seed: options.Seed = 0,
    device: options.Device = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Denoise the sRGB crops of the Darmstadt Noise Dataset."""
    model, wishes = _settled(weights, masks, stride, repeats, refine, strength, seed)

    from amsnet_cli.device import choose_device
    from amsnet_cli.research.submission import submit_dnd

    with progress_bar(folder.name, quiet=quiet) as progress:
        submit_dnd(
            folder, output, model, wishes,
            device=choose_device(device), force=force, progress=progress,
        )  # fmt: skip
    print_result(output / "bundled")
    if not quiet:
        say(f"submit what lies in {output / 'bundled'}")


def _settled(
    weights: str | None,
    masks: int | None,
    stride: int | None,
    repeats: int | None,
    refine: float | None,
    strength: str,
    seed: int,
) -> tuple[Model, DenoiseOptions]:
    from amsnet_cli.weights.store import find_weights

    path = find_weights(weights)

    from amsnet_cli.inference.denoise import DenoiseOptions
    from amsnet_cli.model import load_model

    wishes = DenoiseOptions(
        n_masks=masks, stride=stride, repeats=repeats, refine=refine,
        strength=parse_strength(strength), seed=seed,
    )  # fmt: skip
    return load_model(path, weights or path.stem), wishes
