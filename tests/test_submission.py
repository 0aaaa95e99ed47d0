"""Files for benchmark servers, made from small files of exactly the published formats."""

from __future__ import annotations

import base64
import csv
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from amsnet_cli.inference.denoise import DenoiseOptions, denoise
from amsnet_cli.model import load_model
from amsnet_cli.photos.photo import Photo

BLOCKS = "BenchmarkNoisyBlocksSrgb"


@pytest.fixture
def sidd(tmp_path, noisy_crop) -> Path:
    """Two scenes of two blocks, (2, 2, 40, 40, 3) uint8 in MATLAB 5."""
    blocks = np.stack([noisy_crop[:40, i : i + 40] for i in (0, 40, 80, 120)])
    path = tmp_path / f"{BLOCKS}.mat"
    savemat(path, {BLOCKS: blocks.reshape(2, 2, 40, 40, 3)})
    return path


@pytest.fixture
def dnd(tmp_path, noisy_crop) -> Path:
    """Two pictures of three crops, in MATLAB 7.3: HDF5 with reversed axes and references."""
    folder = tmp_path / "dnd_2017"
    (folder / "images_srgb").mkdir(parents=True)
    # First row, first column, last row, last column, from 1.
    boxes = np.array([[1, 1, 32, 40], [11, 21, 50, 60], [129, 153, 160, 192]], np.float64)
    with h5py.File(folder / "info.mat", "w") as file:
        info = file.create_group("info")
        references = info.create_dataset("boundingboxes", (1, 2), h5py.ref_dtype)
        for i in range(2):
            stored = file.create_dataset(f"#refs#/{i}", data=(boxes + i * np.array([1, 0, 0, 0])).T)
            references[0, i] = stored.ref
    for i in (1, 2):
        with h5py.File(folder / "images_srgb" / f"{i:04d}.mat", "w") as file:
            file["InoisySRGB"] = (noisy_crop.astype(np.float32) / 255).T
    return folder


def denoised(pixels: np.ndarray, model: Path) -> np.ndarray:
    photo = Photo(pixels=np.ascontiguousarray(pixels))
    return denoise(photo, load_model(model), DenoiseOptions(seed=3)).photo.pixels


class TestSidd:
    def test_kaggle_s_csv_holds_each_block_s_bytes_in_order(
        self, sidd, amsnet, tiny_model, tmp_path
    ):
        output = tmp_path / "SubmitSrgb.csv"
        result = amsnet("submit", "sidd", sidd, "-o", output, "-w", tiny_model, "--seed", 3)
        assert result.exit_code == 0, result.stderr
        assert result.stdout == f"{output}\n"
        csv.field_size_limit(1 << 30)
        header, *rows = csv.reader(output.read_text().splitlines())
        assert header == ["ID", "BLOCK"] and [row[0] for row in rows] == ["0", "1", "2", "3"]
        blocks = loadmat(sidd)[BLOCKS].reshape(4, 40, 40, 3)
        for (_, text), noisy in zip(rows, blocks, strict=True):
            block = np.frombuffer(base64.b64decode(text), np.uint8).reshape(40, 40, 3)
            assert np.array_equal(block, denoised(noisy, tiny_model))

    def test_the_server_s_mat_holds_cells_time_and_struct(self, sidd, amsnet, tiny_model, tmp_path):
        output = tmp_path / "SubmitSrgb.mat"
        call = ["submit", "sidd", sidd.parent, "-o", output, "-w", tiny_model, "--seed", 3]
        assert amsnet(*call, "--method", "mine", "--authors", "Jane Doe").exit_code == 0
        content = loadmat(output)
        cells = content["DenoisedBlocksSrgb"]
        assert cells.shape == (2, 2) and cells.dtype == object
        noisy = loadmat(sidd)[BLOCKS]
        for at in np.ndindex(2, 2):
            assert cells[at].dtype == np.uint8
            assert np.array_equal(cells[at], denoised(noisy[at], tiny_model))
        assert content["TimeMPSrgb"].item() > 0
        about = content["OptionalData"][0, 0]
        assert about["MethodName"] == ["mine"] and about["Authors"] == ["Jane Doe"]
        before = output.read_bytes()
        refused = amsnet(*call)
        assert refused.exit_code == 1 and "--force" in refused.stderr
        assert output.read_bytes() == before
        names = sorted(p.name for p in tmp_path.iterdir() if p.is_file())
        assert names == [sidd.name, "SubmitSrgb.mat", "tiny.safetensors"]

    def test_another_suffix_is_refused_before_any_work(self, sidd, amsnet, tiny_model, tmp_path):
        result = amsnet("submit", "sidd", sidd, "-o", tmp_path / "x.zip", "-w", tiny_model)
        assert result.exit_code == 2 and ".csv" in result.stderr


class TestDnd:
    def test_crops_and_bundles(self, dnd, amsnet, tiny_model, tmp_path, noisy_crop):
        out = tmp_path / "out"
        call = ["submit", "dnd", dnd, "-o", out, "-w", tiny_model, "--seed", 3]
        result = amsnet(*call)
        assert result.exit_code == 0, result.stderr
        assert result.stdout == f"{out / 'bundled'}\n"
        picture = noisy_crop.astype(np.float32) / 255
        for i in (1, 2):
            bundle = loadmat(out / "bundled" / f"{i:04d}.mat")
            cells = bundle["Idenoised"]
            assert cells.shape == (1, 3) and not bundle["israw"]
            assert bundle["eval_version"] == ["1.0"]
            second = picture[10 + i - 1 : 50, 20:60]
            expected = denoised(second, tiny_model).clip(0, 1)
            assert cells[0, 1].dtype == np.float32 and np.array_equal(cells[0, 1], expected)
            assert cells[0, 2].shape == (32 - i + 1, 40, 3)
            crop = loadmat(out / f"{i:04d}_02.mat")["Idenoised_crop"]
            assert np.array_equal(crop, cells[0, 1])
        assert len(list(out.rglob("*"))) == 2 * 3 + 2 + 1
        assert "--force" in amsnet(*call).stderr
        before = {p: p.read_bytes() for p in out.rglob("*.mat")}
        time.sleep(1.1)  # MATLAB files usually say when they were made
        assert amsnet(*call, "--force").exit_code == 0
        assert before == {p: p.read_bytes() for p in out.rglob("*.mat")}, "same seed, same bytes"

    def test_options_of_the_other_benchmark_are_refused(self, dnd, amsnet, tmp_path):
        result = amsnet("submit", "dnd", dnd, "-o", tmp_path / "out", "--authors", "Jane Doe")
        assert result.exit_code == 2 and "authors" in result.stderr

    @pytest.mark.parametrize(
        ("spoil", "says"),
        [
            (lambda d: (d / "info.mat").unlink(), "no such file"),
            (lambda d: (d / "info.mat").write_text("x"), "not DND's info.mat"),
            (lambda d: h5py.File(d / "info.mat", "w").close(), "not DND's info.mat"),
            (lambda d: (d / "images_srgb" / "0002.mat").unlink(), "0002.mat: missing"),
        ],
    )
    def test_other_files_are_one_clear_error(self, dnd, amsnet, tiny_model, tmp_path, spoil, says):
        spoil(dnd)
        result = amsnet("submit", "dnd", dnd, "-o", tmp_path / "out", "-w", tiny_model)
        assert result.exit_code == 1, result.exception
        assert says in result.stderr and result.stderr.count("\n") == 1
