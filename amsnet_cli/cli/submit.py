"""`amsnet submit`: files for benchmark servers."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated, Literal

import typer

from amsnet_cli import __version__
from amsnet_cli.cli import options
from amsnet_cli.cli.console import imports_whole, print_result, progress_bar, say
from amsnet_cli.errors import UsageError


def submit(
    benchmark: Annotated[
        Literal["sidd", "dnd"],
        typer.Argument(
            metavar="sidd|dnd",
            help="SIDD's sRGB benchmark, or the sRGB crops of the Darmstadt Noise Dataset.",
        ),
    ],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="sidd: BenchmarkNoisyBlocksSrgb.mat, or its folder; dnd: the folder with info.mat "
            "and images_srgb/.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="sidd: SubmitSrgb.csv for Kaggle, or SubmitSrgb.mat; dnd: a folder.",
        ),
    ],
    weights: options.Weights = None,
    method: Annotated[
        str | None, typer.Option(help="Name of the method in SubmitSrgb.mat. (default: amsnet)")
    ] = None,
    authors: Annotated[
        str | None, typer.Option(help="Names of the authors in SubmitSrgb.mat.")
    ] = None,
    masks: options.Masks = None,
    pd_stride: options.PdStride = None,
    repeats: options.Repeats = None,
    refine: options.Refine = None,
    ensemble: options.Ensemble = None,
    strength: options.Strength = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Denoise a benchmark's data and write the files that its server accepts."""
    if benchmark == "dnd" and (method is not None or authors is not None):
        raise UsageError("DND's files name no method and no authors", "leave them out")

    from amsnet_cli.weights.store import find_weights

    path = find_weights(weights)  # A wrong name is an error before torch is imported.

    with imports_whole():
        from amsnet_cli.device import choose_device
        from amsnet_cli.inference.denoise import DenoiseOptions
        from amsnet_cli.model import load_model
        from amsnet_cli.research.submission import submit_dnd, submit_sidd

    model = load_model(path, weights or path.stem)
    where = choose_device(device)
    denoise_options = DenoiseOptions(
        n_masks=masks, stride=pd_stride, repeats=repeats, refine=refine, ensemble=ensemble,
        strength=strength, seed=seed,
    )  # fmt: skip
    with progress_bar(data.name, quiet=quiet) as progress:
        if benchmark == "sidd":
            about = {
                "MethodName": method or f"amsnet {__version__}, {model.name}",
                "Authors": authors or "",
                "PaperTitle": "",
                "Venue": "",
                "MachineSpecs": f"{platform.machine()} {platform.processor()}, {device}",
            }
            submit_sidd(
                data, output, model, denoise_options,
                about=about, device=where, force=force, progress=progress,
            )  # fmt: skip
        else:
            submit_dnd(
                data, output, model, denoise_options, device=where, force=force, progress=progress
            )
    files = output if benchmark == "sidd" else output / "bundled"
    print_result(files)
    if benchmark == "dnd" and not quiet:
        say(f"submit the files in {files}")
