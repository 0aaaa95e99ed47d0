from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.parametrize("preset", ["paper", "masked"])
def test_ablations_print_a_row_for_each_fit(tmp_path, noisy_crop, preset):
    pytest.importorskip("bm3d", reason='needs pip install -e ".[benchmarks]"')
    for name in ("noisy", "clean"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.ascontiguousarray(noisy_crop[:96, :96])).save(tmp_path / name / "a.png")
    command = [
        sys.executable, "-m", "benchmarks.ablations", str(tmp_path), "--preset", preset,
        "--minutes", "0.01", "--no-bm3d", "--rows", "B:", "k = 4", "training stride 1",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    titles = [line.split("|")[1].strip() for line in done.stdout.splitlines() if "|" in line]
    assert titles[2] == "noisy"
    assert titles[4:] == ["B: compact, k = 2, strides 5 and 2", "k = 4", "training stride 1"]


def test_each_kind_of_noise_is_all_that_tells_a_file_from_its_twin(clean_crop):
    pytest.importorskip("bm3d", reason='needs pip install -e ".[benchmarks]"')
    from benchmarks.kinds import KINDS, as_it_is

    picture = np.tile(clean_crop, (9, 9, 1))[:480, :480]
    for name, kind in KINDS.items():
        noisy, clean = kind.pair(picture, np.random.default_rng(0))
        again, _ = kind.pair(picture, np.random.default_rng(0))
        assert np.array_equal(noisy, again), name
        assert 3 < np.std(noisy.astype(float) - clean) < 60, name
        noiseless = replace(kind, noise=as_it_is, afterwards=as_it_is)
        without, twin = noiseless.pair(picture, np.random.default_rng(0))
        assert np.array_equal(without, twin), name
