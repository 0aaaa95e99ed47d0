from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from amsnet_cli import find_weights
from amsnet_cli.photos.read import read_mosaic_photo
from benchmarks import make_raw, raw

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.slow
def test_ablations_print_a_row_for_each_fit(tmp_path, noisy_crop):
    pytest.importorskip("bm3d", reason='needs pip install -e ".[benchmarks]"')
    for name in ("noisy", "clean"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.ascontiguousarray(noisy_crop[:96, :96])).save(tmp_path / name / "a.png")
    command = [
        sys.executable, "-m", "benchmarks.ablations", str(tmp_path),
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


def lines_of(capsys, monkeypatch, *arguments, of="postprocess") -> list[list[str]]:
    monkeypatch.setattr(sys, "argv", [of, *map(str, arguments)])
    importlib.import_module(f"benchmarks.{of}").main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


@pytest.mark.slow
def test_what_a_fit_says_stands_beside_the_truth(one_picture_set, capsys, monkeypatch):
    from benchmarks import fit_verdicts

    monkeypatch.setattr(
        sys, "argv", ["fit_verdicts", str(one_picture_set), "--seeds", "1", "--steps", "2"]
    )
    fit_verdicts.main()
    printed = capsys.readouterr().out
    assert "\n| set | 0 | " in printed
    says = [line.split("|")[1:-1] for line in printed.splitlines()[-3:]]
    assert [row[0].strip() for row in says] == ["better", "cannot tell", "no model"]
    assert sum(int(count) for row in says for count in row[1:]) == 1


def test_each_stage_of_the_post_processing_has_a_column(one_picture_set, capsys, monkeypatch):
    stages = ["smooth_residual_noise"]
    titles, row = lines_of(
        capsys,
        monkeypatch,
        one_picture_set,
        "--sets",
        "set",
        "--weights",
        "fine",
        "--without",
        *stages,
    )
    assert titles == ["set", "noisy", "auto", "strength 1", *stages]
    assert row[0] == "set (1)" and float(row[2].split("/")[0]) > 5
    assert all(0.001 < abs(float(cell.split("/")[0])) < 1 for cell in row[4:])


def test_white_noise_has_a_row_for_each_strength(one_picture_set, capsys, monkeypatch):
    titles, *rows = lines_of(
        capsys, monkeypatch, one_picture_set / "set" / "clean", "--no-bm3d", of="white_noise"
    )
    assert [row[:2] for row in rows] == [["clean (1)", str(s)] for s in (5, 15, 25, 50)]
    scores = [dict(zip(titles, row, strict=True)) for row in rows]
    for score in scores:
        measured, told, in_papers = (
            float(score[f"photo, {how}"]) for how in ("measured", "told", "told, as in papers")
        )
        assert measured > float(score["noisy"]) + 1
        assert measured == pytest.approx(told, abs=1.5)
        assert in_papers == pytest.approx(told, abs=1.5)
    assert len({score["photo, told"] for score in scores}) == 4


def test_an_option_has_a_column_for_each_value(one_picture_set, capsys, monkeypatch):
    titles, row = lines_of(
        capsys, monkeypatch, one_picture_set, "--sets", "set", "--option", "strength", "0", "1",
        of="options",
    )  # fmt: skip
    assert titles == ["set", "noisy", "strength 0", "strength 1"]
    assert row[2] == "+0.000 / +0.00" and float(row[3].split("/")[0]) > 5


def test_a_sweep_moves_every_number(one_picture_set, capsys, monkeypatch):
    from amsnet_cli.postprocess.config import PostprocessConfig
    from benchmarks.postprocess import FACTORS, moved, numbers_of

    for name, value, put in numbers_of(PostprocessConfig()):
        for factor in FACTORS:
            config = put(moved(value, factor))
            assert config != PostprocessConfig(), name
    titles, *rows = lines_of(
        capsys, monkeypatch, one_picture_set,
        "--sets", "set", "--sweep", "--numbers", "smooth",
    )  # fmt: skip
    assert titles == ["number", "default", "largest", "set"]
    assert [row[0] for row in rows] == ["smoothed_share", "smoothing_radius"]


@pytest.fixture(scope="module")
def raw_set(tmp_path_factory):
    """Return a folder of clean photos, and a function that makes RAW files of them."""
    clean = tmp_path_factory.mktemp("clean")
    for name in ("astronaut", "coffee"):
        picture = getattr(skimage.data, name)()[100:228, 100:228]
        Image.fromarray(picture).save(clean / f"{name}.png")

    def make(*options: str) -> Path:
        out = tmp_path_factory.mktemp("made")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["make_raw", str(clean), str(out), *options])
            make_raw.main()
        return out

    return make


@pytest.mark.parametrize("pattern", ["gbrg", "xtrans", "mono"])
def test_made_raw_files_hold_the_noise_that_is_told(raw_set, pattern):
    law = "1000=1e-3,4e-5"
    folder = raw_set("--pattern", pattern, "--law", law, "--noise-profile", "--black", "256")
    clean, noisy = (read_mosaic_photo(folder / f"coffee_{n}.dng").mosaic for n in ("clean", 1000))
    assert noisy.noise_profile == ((1e-3, 4e-5),) and not clean.noise_profile
    assert not read_mosaic_photo(folder / "astronaut_1000.dng").mosaic.noise_profile
    expected = np.where(make_raw.PATTERNS[pattern] == 3, 1, make_raw.PATTERNS[pattern])
    assert np.array_equal(np.where(noisy.colours == 3, 1, noisy.colours), expected)
    light = clean.light()
    assert (noisy.iso, noisy.white, noisy.black.min()) == (1000, 16383, 256)
    dull = light < 0.8
    errors = (noisy.light() - light) / np.sqrt(1e-3 * light + 4e-5)
    assert np.std(errors[dull]) == pytest.approx(1, abs=0.02)
    assert np.mean(errors[dull]) == pytest.approx(0, abs=0.05)


def test_rows_share_noise_at_the_highest_iso_only(raw_set):
    folder = raw_set("--law", "100=1e-5,1e-4", "6400=1e-5,1e-4", "--row-noise", "3")
    clean, low, high = (
        read_mosaic_photo(folder / f"coffee_{n}.dng").mosaic.light() for n in ("clean", 100, 6400)
    )
    rows = [np.std((noisy - clean)[:, 8:].mean(1)) for noisy in (low, high)]
    assert rows[0] < 0.002 < 0.02 < rows[1]


@pytest.mark.slow
def test_raw_benchmark_prints_a_row_for_each_way(raw_set, tmp_path, capsys, monkeypatch):
    folder = raw_set("--pattern", "gbrg", "--law", "25600=2.6e-3,6.1e-6")
    namesake = str(shutil.copy(find_weights("raw"), tmp_path))
    options = ["--metrics", "m", "a", "--model", namesake]
    monkeypatch.setattr(sys, "argv", ["raw", str(folder), *options])
    raw.main()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("| ")
    ]
    psnr = {metric: {} for metric in "MA"}
    for title, value in rows:
        if value.startswith("ISO"):
            table = psnr[title[0]]
        else:
            table[title] = float(value.split()[0])
    assert set(psnr["M"]) == {
        "noisy", "`raw`, true noise", "`raw`, estimated noise", "`raw`, estimated without ISO",
        "`fitted raw`, true noise", "`fitted raw`, estimated noise",
        "`fitted raw`, estimated without ISO",
    }  # fmt: skip
    assert {"`photo` after development", "`fine` after development"} <= set(psnr["A"])
    for table in psnr.values():
        assert table["`raw`, true noise"] > table["noisy"] + 2


def test_planning_grows_with_the_number_of_photos_and_stays_small():
    """Ten times the photos take about ten times as long, and little memory."""
    command = [sys.executable, "-m", "benchmarks.plan", "--counts", "1000", "10000"]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    small, large = (line.split("|") for line in done.stdout.splitlines()[2:])
    seconds = [float(row[2].split()[0]) for row in (small, large)]
    assert seconds[1] < 25 * seconds[0] and seconds[1] < 2
    assert float(large[4].split()[0]) - float(small[4].split()[0]) < 40
    assert 1 < float(large[5].split()[0]) < 1.2


@pytest.mark.slow
def test_speed_prints_all_stages_and_a_batch(tmp_path):
    pytest.importorskip("bm3d", reason='needs pip install -e ".[benchmarks]"')
    photo = tmp_path / "a.png"
    Image.fromarray(skimage.data.astronaut()[:96, :128]).save(photo)
    command = [
        sys.executable, "-m", "benchmarks.speed", str(photo), "--megapixels", "0.02", "--runs", "1",
        "--suffix", ".png", "--batch", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    header, _, row, nlm, _ = (x for x in done.stdout.splitlines() if x.startswith("|"))
    assert header.count("|") == row.count("|") == nlm.count("|")
    *stages, total = (float(x.split("(")[0]) for x in row.split("|")[3:-2])
    assert total == pytest.approx(sum(stages), abs=0.01)
    assert "Start-up: " in done.stdout and "Batch of 1 photos" in done.stdout
