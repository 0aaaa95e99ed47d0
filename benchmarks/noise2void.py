"""Denoise grey pictures of one size by CAREamics' Noise2Void, to compare with a fit.

    pip install careamics tifffile  # in an environment of its own
    python benchmarks/noise2void.py --minutes 2 --output DIR FILE...

Trains on all files together, as CAREamics' guide does (patches of 64 pixels, 16 in a batch, all
else by default), for the minutes, with the weights of the last step. Writes the results to DIR
under the names of the files, as float TIFF; `benchmarks.micro --results DIR` scores them. Uses
nothing of amsnet, so that its environment need not hold it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tifffile
from careamics import CAREamist
from careamics.config.factories.n2v_factory import create_n2v_config

EPOCHS = 100_000
"""More than fit into the minutes."""


def main() -> None:
    """Train, predict, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=2.0)
    options = parser.parse_args()
    pages = [tifffile.imread(path).astype(np.float32) for path in options.files]
    shapes = [page.shape for page in pages]
    frames = np.concatenate([page.reshape(-1, *page.shape[-2:]) for page in pages])
    config = create_n2v_config(
        "noise2void", "array", "SYX", patch_size=[64, 64], batch_size=16, num_epochs=EPOCHS
    )
    config.training_config.trainer_params["max_time"] = {"seconds": round(60 * options.minutes)}
    options.output.mkdir(parents=True, exist_ok=True)
    careamist = CAREamist(config, work_dir=options.output / "training", enable_progress_bar=False)
    careamist.train(train_data=frames)
    print(f"{careamist.trainer.global_step} steps, {careamist.trainer.current_epoch} epochs")
    results, _ = careamist.predict(frames, batch_size=1, tile_size=(256, 256))
    clean = np.concatenate([np.asarray(r).reshape(-1, *frames.shape[1:]) for r in results])
    for path, shape in zip(options.files, shapes, strict=True):
        count = int(np.prod(shape[:-2]))
        tifffile.imwrite(options.output / path.name, clean[:count].reshape(shape))
        clean = clean[count:]


if __name__ == "__main__":
    main()
