"""`amsnet evaluate`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from amsnet_cli import __version__
from amsnet_cli.cli import options
from amsnet_cli.cli.console import print_result, progress_bar, reports_errors, show_table, stdout
from amsnet_cli.cli.denoise import parse_strength, parse_tile


@reports_errors
def evaluate(
    noisy: Annotated[
        Path,
        typer.Argument(
            metavar="NOISY",
            help="A folder of noisy pictures, or of both kinds; or SIDD's validation blocks.",
        ),
    ],
    clean: Annotated[
        Path | None,
        typer.Argument(
            metavar="CLEAN",
            help="Clean pictures of the same names; without, they are found in NOISY.",
        ),
    ] = None,
    weights: options.Weights = None,
    every: Annotated[int, typer.Option(min=1, help="Take each n-th picture.")] = 1,
    masks: options.Masks = None,
    stride: options.InferStride = None,
    repeats: options.Repeats = None,
    refine: options.Refine = None,
    strength: options.Strength = "auto",
    tile: options.Tile = "auto",
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Score weights on pictures whose clean versions are known: PSNR and SSIM.

    In one folder, noisy and clean pictures are told by their names: x_real and x_mean (PolyU),
    x_NOISY_1 and x_GT_1 (SIDD), noisy/x and clean/x, input/x and target/x, and the like. SIDD's
    blocks are read from ValidationNoisyBlocksSrgb.mat and ValidationGtBlocksSrgb.mat.
    """
    from amsnet_cli.weights.manifest import sha256_of
    from amsnet_cli.weights.store import find_weights

    tile_size, share = parse_tile(tile), parse_strength(strength)
    path = find_weights(weights)

    from amsnet_cli.device import choose_device
    from amsnet_cli.inference.denoise import DenoiseOptions
    from amsnet_cli.model import load_model
    from amsnet_cli.research import evaluation
    from amsnet_cli.research.datasets import find_pairs

    pairs = find_pairs(noisy, clean)[::every]
    where = choose_device(device)
    model = load_model(path, weights or path.stem)
    wishes = DenoiseOptions(
        n_masks=masks, stride=stride, repeats=repeats, refine=refine,
        strength=share, tile=tile_size, seed=seed,
    )  # fmt: skip
    scores = []
    with progress_bar(noisy.name, quiet=quiet) as progress:
        for score in evaluation.evaluate(pairs, model, wishes, device=where):
            scores.append(score)
            progress(len(scores) / len(pairs))
    fields = ("noisy_psnr", "noisy_ssim", "psnr", "ssim")
    mean = {f: sum(getattr(s, f) for s in scores) / len(scores) for f in fields}
    worse = sum(s.psnr < s.noisy_psnr for s in scores)
    digest = sha256_of(path)
    about = {
        "version": __version__,
        "weights": model.name,
        "sha256": digest,
        "every": every,
        "masks": masks,
        "stride": stride,
        "repeats": repeats,
        "refine": refine,
        "seed": seed,
        "protocol": evaluation.PROTOCOL,
    }
    if as_json:
        pictures = [dataclasses.asdict(s) for s in scores]
        print_result(json.dumps({**about, "mean": mean, "worse": worse, "pictures": pictures}))
        return
    table = Table("picture", box=None, header_style="bold")
    for title in ("noisy PSNR", "SSIM", "denoised PSNR", "SSIM"):
        table.add_column(title, justify="right")
    for s in scores:
        table.add_row(escape(s.name), *_figures(dataclasses.asdict(s)))
    table.add_row(f"mean of {len(scores)}", *_figures(mean), style="bold")
    show_table(table)
    stdout.print(
        f"{worse} of {len(scores)} worse than noisy. amsnet {__version__}, {escape(model.name)} "
        f"({digest[:12]}), seed {seed}. {evaluation.PROTOCOL}."
    )


def _figures(row: dict[str, float]) -> list[str]:
    psnr, ssim = "{:.2f}".format, "{:.4f}".format
    return [
        psnr(row["noisy_psnr"]), ssim(row["noisy_ssim"]), psnr(row["psnr"]), ssim(row["ssim"])
    ]  # fmt: skip
