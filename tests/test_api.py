from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import amsnet_cli
from amsnet_cli import Photo, denoise, denoise_array, fit, load_model, read_photo
from amsnet_cli.errors import AmsnetError, OutputError, WeightsError
from amsnet_cli.mosaic_model import MosaicModel
from amsnet_cli.photos.exif import SOFTWARE
from amsnet_cli.photos.write import write_photo
from tests.dng_files import BLACK, WHITE, dng

PAGE = (Path(__file__).parents[1] / "docs" / "api.md").read_text("utf-8")


@pytest.mark.usefixtures("few_validation_patches")
def test_the_examples_of_the_page_run(tmp_path, monkeypatch, noisy_crop, capsys):
    monkeypatch.chdir(tmp_path)
    Path("my_shots").mkdir()
    write_photo(Photo(pixels=noisy_crop), Path("a.jpg"))
    write_photo(Photo(pixels=noisy_crop), Path("my_shots/1.png"))
    names: dict[str, object] = {}
    for example in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(example, "docs/api.md", "exec"), names)
    made = {p.as_posix() for p in Path().rglob("*") if p.is_file()}
    assert {"b.jpg", "b.png", "my_shots/1_clean.png", "copy.tif"} <= made
    printed = capsys.readouterr().out
    assert "(160, 192, 3)" in printed and "inf 1.0" in printed
    assert "b.jpg: exists already" in printed


def test_the_page_names_all_of_the_interface_and_its_signatures():
    for name in amsnet_cli.__all__:
        assert f"`{name}" in PAGE or f"amsnet.{name}" in PAGE, name
        assert getattr(amsnet_cli, name).__name__ == name
    for function in (denoise, denoise_array, fit):
        documented = re.search(rf"`{function.__name__}\((.*?)\)`", PAGE)[1]
        parameters = re.findall(r"(\w+)(?:=|,|$)", re.sub(r"=[^,]*", "=", documented))
        assert parameters == list(inspect.signature(function).parameters)
    with pytest.raises(AttributeError):
        amsnet_cli.nothing  # noqa: B018


def test_the_file_is_that_of_the_command(amsnet, noisy_png, tiny_model, tmp_path):
    by_command, by_python = tmp_path / "a.png", tmp_path / "b.png"
    call = ["denoise", noisy_png, "-o", by_command, "-w", tiny_model, "--luma", 0.5]
    assert amsnet(*call).exit_code == 0
    denoised = denoise(str(noisy_png), str(by_python), weights=str(tiny_model), luma=0.5)
    assert by_python.read_bytes() == by_command.read_bytes()
    with Image.open(by_python) as image:
        assert "(tiny, luma 0.5)" in image.getexif()[SOFTWARE]
    assert np.array_equal(denoised.photo.pixels, read_photo(by_python).pixels)
    assert denoised.model.name == str(tiny_model)
    assert denoised.noise_after < denoised.noise_before


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("uint8", 0, 255), ("uint16", 0, 65535), ("uint16", 0, 4095), ("int16", 0, 9000),
        ("int32", -2000, 5000), ("uint32", 0, 3e6), ("float16", 0, 1), ("float32", 0, 1),
        ("float64", 0, 1), (">f8", 0, 2e-6), ("float64", 0, 4e7), ("float32", 0, 255),
    ],
)  # fmt: skip
@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_arrays_of_any_type_and_range(noisy_crop, clean_crop, dtype, low, high, channels):
    def scaled(picture: np.ndarray) -> np.ndarray:
        unit = picture[:80, :96] / 255
        unit = unit if channels == (3,) else unit.mean(2).reshape(80, 96, *channels)
        values = low + (high - low) * unit
        return (values if "f" in dtype else values.round()).astype(dtype)

    noisy, clean = scaled(noisy_crop), scaled(clean_crop).astype(float)
    before = noisy.copy()
    denoised = denoise_array(noisy, strength=1.0)
    assert (denoised.shape, denoised.dtype) == (noisy.shape, noisy.dtype)
    assert np.array_equal(noisy, before)
    error = np.abs(denoised.astype(float) - clean).mean()
    assert error < 0.75 * np.abs(noisy.astype(float) - clean).mean()


def test_arrays_keep_what_is_no_picture_and_strength_0_keeps_all(noisy_crop):
    holes = (noisy_crop[:40, :48] / 255).astype(np.float64)
    holes[5, 6] = np.nan
    assert np.isnan(denoise_array(holes)[5, 6]).all()
    assert np.isnan(denoise_array(holes)).sum() == 3
    assert np.array_equal(denoise_array(noisy_crop, 0), noisy_crop)
    assert np.array_equal(denoise_array(noisy_crop[::2, ::-1]).shape, noisy_crop[::2].shape)
    for wrong in (np.zeros((4, 4, 4, 3)), np.zeros((4, 4, 2)), np.zeros((0, 4)), np.zeros(3)):
        with pytest.raises(AmsnetError, match="array of shape"):
            denoise_array(wrong)
    for wrong in (np.zeros((4, 4), bool), np.zeros((4, 4), complex), np.array([["a"]])):
        with pytest.raises(AmsnetError, match="integers or floats"):
            denoise_array(wrong)


def test_nothing_is_overwritten_unless_forced(noisy_png, tiny_model, tmp_path):
    before, model = noisy_png.read_bytes(), load_model(tiny_model)
    with pytest.raises(OutputError, match="exists already"):
        denoise(noisy_png, noisy_png, weights=model)
    assert noisy_png.read_bytes() == before
    denoise(noisy_png, noisy_png, weights=model, force=True)
    assert noisy_png.read_bytes() != before
    with pytest.raises(OutputError, match="already exists"):
        fit(tmp_path, tiny_model)


def test_the_import_loads_neither_torch_nor_numpy():
    code = (
        "import sys, amsnet_cli; amsnet_cli.AmsnetError\n"
        "assert not {'torch', 'numpy', 'pyvips', 'typer'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.mark.slow
def test_denoising_does_not_load_the_compiler_of_torch(noisy_png):
    code = (
        "import sys, amsnet_cli; amsnet_cli.denoise(sys.argv[1], device='cpu')\n"
        "assert not {'torch._dynamo', 'sympy'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code, str(noisy_png)], check=True, env=environment)


class TestRaw:
    @pytest.fixture
    def raw(self, tmp_path) -> Path:
        rng = np.random.default_rng(0)
        light = np.linspace(0.1, 0.6, 96)[:, None].repeat(128, 1)
        noisy = light + 0.03 * rng.standard_normal(light.shape)
        path = tmp_path / "a.dng"
        path.write_bytes(dng(np.rint(BLACK + noisy * (WHITE - BLACK)).astype(np.uint16)))
        return path

    @pytest.mark.parametrize("suffix", [".tif", ".jpg", ".dng"])
    @pytest.mark.parametrize("stage", ["mosaic", "developed"])
    def test_the_file_is_that_of_the_command(self, amsnet, raw, tmp_path, suffix, stage):
        by_command, by_python = (tmp_path / f"{name}{suffix}" for name in ("command", "python"))
        assert amsnet("denoise", raw, "-o", by_command, "--raw", stage).exit_code == 0
        denoised = denoise(raw, by_python, raw=stage)
        assert by_python.read_bytes() == by_command.read_bytes()
        of_mosaics = isinstance(denoised.model, MosaicModel)
        assert of_mosaics == (stage == "mosaic" or suffix == ".dng")
        if suffix == ".dng":
            assert np.isnan(denoised.noise_before) and np.isnan(denoised.noise_after)
        else:
            assert denoised.noise_after < denoised.noise_before

    def test_a_model_decides_by_its_kind(self, raw, mosaic_model):
        developed = denoise(raw, weights=load_model("photo"))
        assert developed.model.name == "photo"
        undeveloped = denoise(raw, weights=mosaic_model)
        assert undeveloped.model is mosaic_model
        assert undeveloped.photo.pixels.shape == developed.photo.pixels.shape
        with pytest.raises(WeightsError, match="mosaics"):
            denoise(Photo(pixels=np.zeros((8, 8, 3), np.uint8)), weights=mosaic_model)
