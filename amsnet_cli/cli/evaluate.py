"""`amsnet evaluate`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from amsnet_cli import __version__
from amsnet_cli.cli import options
from amsnet_cli.cli.console import imports_whole, print_json, progress_bar, show_table, stdout


def evaluate(
    noisy: Annotated[
        Path,
        typer.Argument(
            metavar="NOISY",
            help="A folder of noisy pictures, or of noisy and clean ones; or SIDD's validation "
            "blocks.",
        ),
    ],
    clean: Annotated[
        Path | None,
        typer.Argument(
            metavar="CLEAN",
            help="A folder of clean pictures of the same names. (default: found in NOISY)",
        ),
    ] = None,
    weights: options.Weights = None,
    every: Annotated[int, typer.Option(min=1, help="Take every n-th picture.")] = 1,
    masks: options.Masks = None,
    pd_stride: options.PdStride = None,
    repeats: options.Repeats = None,
    refine: options.Refine = None,
    ensemble: options.Ensemble = None,
    strength: options.Strength = None,
    noise: options.Noise = None,
    tile: options.Tile = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure PSNR and SSIM on pictures whose clean versions are known.

    In one folder, noisy and clean pictures are recognised by their names: x_real and x_mean
    (PolyU), x_NOISY_1 and x_GT_1 (SIDD), noisy/x and clean/x, input/x and target/x, and the like.
    SIDD's blocks are read from ValidationNoisyBlocksSrgb.mat and ValidationGtBlocksSrgb.mat.
    """
    from amsnet_cli.weights.manifest import sha256_of
    from amsnet_cli.weights.store import find_weights

    path = find_weights(weights)

    with imports_whole():
        from amsnet_cli.device import choose_device
        from amsnet_cli.inference.denoise import DenoiseOptions
        from amsnet_cli.model import load_model
        from amsnet_cli.research import evaluation
        from amsnet_cli.research.datasets import find_pairs

    pairs = find_pairs(noisy, clean)[::every]
    where = choose_device(device)
    model = load_model(path, weights or path.stem)
    denoise_options = DenoiseOptions(
        n_masks=masks, stride=pd_stride, repeats=repeats, refine=refine, ensemble=ensemble,
        strength=strength, noise=noise, tile=tile or 0, seed=seed,
    )  # fmt: skip
    scores = []
    with progress_bar(noisy.name, quiet=quiet) as progress:
        for score in evaluation.evaluate(pairs, model, denoise_options, device=where):
            scores.append(score)
            progress(len(scores) / len(pairs))
    fields = ("noisy_psnr", "noisy_ssim", "psnr", "ssim")
    mean = {f: sum(getattr(s, f) for s in scores) / len(scores) for f in fields}
    worse = sum(s.psnr < s.noisy_psnr for s in scores)
    digest = sha256_of(path)
    if as_json:
        print_json({
            "version": __version__,
            "weights": model.name,
            "sha256": digest,
            "every": every,
            "masks": masks,
            "pd_stride": pd_stride,
            "repeats": repeats,
            "refine": refine,
            "ensemble": ensemble,
            "seed": seed,
            "protocol": evaluation.PROTOCOL,
            "mean": mean,
            "worse_than_noisy": worse,
            "pictures": [dataclasses.asdict(s) for s in scores],
        })  # fmt: skip
        return
    table = Table("picture", box=None, header_style="bold")
    for title in ("noisy PSNR", "SSIM", "denoised PSNR", "SSIM"):
        table.add_column(title, justify="right")
    for s in scores:
        table.add_row(escape(s.name), *_cells(dataclasses.asdict(s)))
    table.add_row(f"mean of {len(scores)}", *_cells(mean), style="bold")
    show_table(table)
    stdout.print(
        f"{worse} of {len(scores)} worse than noisy. amsnet {__version__}, {escape(model.name)} "
        f"({digest[:12]}), seed {seed}. {evaluation.PROTOCOL}."
    )


def _cells(row: dict[str, float]) -> list[str]:
    psnr, ssim = "{:.2f}".format, "{:.4f}".format
    return [
        psnr(row["noisy_psnr"]), ssim(row["noisy_ssim"]), psnr(row["psnr"]), ssim(row["ssim"])
    ]  # fmt: skip
