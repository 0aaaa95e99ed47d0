"""`amsnet submit`: files for benchmark servers."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amsnet_cli import __version__
from amsnet_cli.cli import options
from amsnet_cli.cli.console import imports_whole, print_result, progress_bar, say

if TYPE_CHECKING:
    from amsnet_cli.model import Model

app = typer.Typer(
    help="Denoise benchmark data and write the files that its server accepts.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
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
        str | None, typer.Option(help="Name of the method in SubmitSrgb.mat. (default: amsnet)")
    ] = None,
    authors: Annotated[str, typer.Option(help="Names of the authors in SubmitSrgb.mat.")] = "",
    masks: options.Masks = None,
    pd_stride: options.PdStride = None,
    repeats: options.Repeats = None,
    refine: options.Refine = None,
    strength: options.Strength = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Denoise SIDD's sRGB benchmark."""
    model = _load_model(weights)

    from amsnet_cli.device import choose_device
    from amsnet_cli.inference.denoise import DenoiseOptions
    from amsnet_cli.research.submission import submit_sidd

    denoise_options = DenoiseOptions(
        n_masks=masks, stride=pd_stride, repeats=repeats, refine=refine,
        strength=strength, seed=seed,
    )  # fmt: skip

    about = {
        "MethodName": method or f"amsnet {__version__}, {model.name}",
        "Authors": authors,
        "PaperTitle": "",
        "Venue": "",
        "MachineSpecs": f"{platform.machine()} {platform.processor()}, {device}",
    }
    with progress_bar(benchmark.name, quiet=quiet) as progress:
        submit_sidd(
            benchmark, output, model, denoise_options,
            about=about, device=choose_device(device), force=force, progress=progress,
        )  # fmt: skip
    print_result(output)


@app.command()
def dnd(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="With info.mat and images_srgb/.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="A folder.")],
    weights: options.Weights = None,
    masks: options.Masks = None,
    pd_stride: options.PdStride = None,
    repeats: options.Repeats = None,
    refine: options.Refine = None,
    strength: options.Strength = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Denoise the sRGB crops of the Darmstadt Noise Dataset."""
    model = _load_model(weights)

    from amsnet_cli.device import choose_device
    from amsnet_cli.inference.denoise import DenoiseOptions
    from amsnet_cli.research.submission import submit_dnd

    denoise_options = DenoiseOptions(
        n_masks=masks, stride=pd_stride, repeats=repeats, refine=refine,
        strength=strength, seed=seed,
    )  # fmt: skip

    with progress_bar(folder.name, quiet=quiet) as progress:
        submit_dnd(
            folder, output, model, denoise_options,
            device=choose_device(device), force=force, progress=progress,
        )  # fmt: skip
    print_result(output / "bundled")
    if not quiet:
        say(f"submit the files in {output / 'bundled'}")


def _load_model(weights: str | None) -> Model:
    from amsnet_cli.weights.store import find_weights

    path = find_weights(weights)  # A wrong name is an error before torch is imported.

    with imports_whole():
        from amsnet_cli.model import load_model

    return load_model(path, weights or path.stem)
