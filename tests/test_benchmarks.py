from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.slow
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
    from benchmarks.kinds import KINDS, unchanged

    picture = np.tile(clean_crop, (9, 9, 1))[:480, :480]
    for name, kind in KINDS.items():
        noisy, clean = kind.pair(picture, np.random.default_rng(0))
        again, _ = kind.pair(picture, np.random.default_rng(0))
        assert np.array_equal(noisy, again), name
        assert 3 < np.std(noisy.astype(float) - clean) < 60, name
        noiseless = replace(kind, noise=unchanged, afterwards=unchanged)
        without, twin = noiseless.pair(picture, np.random.default_rng(0))
        assert np.array_equal(without, twin), name


@pytest.fixture
def one_picture_set(tmp_path, noisy_crop, clean_crop):
    pytest.importorskip("bm3d", reason='needs pip install -e ".[benchmarks]"')
    for name, picture in (("noisy", noisy_crop), ("clean", clean_crop)):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.fromarray(np.ascontiguousarray(picture)).save(tmp_path / "set" / name / "a.png")
    return tmp_path


def lines_of(capsys, monkeypatch, *arguments) -> list[list[str]]:
    from benchmarks import postprocess

    monkeypatch.setattr(sys, "argv", ["postprocess", *map(str, arguments)])
    postprocess.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_each_stage_of_the_post_processing_has_a_column(one_picture_set, capsys, monkeypatch):
    stages = ["restore_texture", "smooth_residual_noise"]
    titles, row = lines_of(
        capsys, monkeypatch, one_picture_set, "--sets", "set", "--without", *stages
    )
    assert titles == ["set", "noisy", "auto", "strength 1", *stages]
    assert row[0] == "set (1)" and float(row[2].split("/")[0]) > 5
    assert all(0.001 < abs(float(cell.split("/")[0])) < 1 for cell in row[4:])


def test_a_sweep_moves_every_number_and_keeps_ranges_in_order(one_picture_set, capsys, monkeypatch):
    from amsnet_cli.postprocess.config import PostprocessConfig
    from benchmarks.postprocess import FACTORS, moved, numbers_of

    for name, value, put in numbers_of(PostprocessConfig()):
        for factor in FACTORS:
            config = put(moved(value, factor))
            assert config != PostprocessConfig(), name
            numbers = {n: v for n, v, _ in numbers_of(config)}
            if name.endswith(("[0]", "[1]")) and isinstance(value, float):
                assert numbers[f"{name[:-3]}[0]"] < numbers[f"{name[:-3]}[1]"], name
    titles, *rows = lines_of(
        capsys, monkeypatch, one_picture_set,
        "--sets", "set", "--sweep", "--numbers", "residual_noise",
    )  # fmt: skip
    assert titles == ["number", "default", "largest", "set"]
    assert [row[0].split(".")[1] for row in rows] == ["luma_sigma", "chroma_sigma", "radius"]
