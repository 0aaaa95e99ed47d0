"""Models for other programs: ONNX Runtime runs them, and they agree with PyTorch."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from amsnet_cli.core.multi_mask import single_pass
from amsnet_cli.core.networks import CompactUNetConfig
from amsnet_cli.exporting.darktable import OVERLAP, SIDE
from amsnet_cli.exporting.graph import TOLERANCE, difference
from amsnet_cli.model import Inference, Model, ModelConfig, build_network, load_model, save_model
from amsnet_cli.mosaic_model import save_mosaic_model
from tests.conftest import SHARED
from tests.test_adapt_preset import with_coarse_noise

onnx = pytest.importorskip("onnx", reason="the extra amsnet[export] is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="amsnet[export] is not installed")

FITTED = "my shots (ISO 3200)"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small untrained model of a single pass."""
    torch.manual_seed(0)
    config = ModelConfig(
        network=CompactUNetConfig(widths=(8, 8), blocks=(1, 1), unshuffle=2),
        inference=Inference(passes="single"), cameras={"Canon EOS 6D": [3200, 3200]},
    )  # fmt: skip
    path = tmp_path / f"{FITTED}.safetensors"
    save_model(path, build_network(config), config)
    return path


def real_tile(height: int, width: int) -> np.ndarray:
    """A part of a CC0 photo with noise, (1, 3, H, W)."""
    clean = np.tile(skimage.data.astronaut() / 255, (2, 2, 1))[100 : 100 + height, :width]
    noisy = clean + np.random.default_rng(0).normal(0, 0.1, clean.shape)
    return noisy.clip(0, 1).astype(np.float32).transpose(2, 0, 1)[None]


def test_a_package_keeps_to_the_rules_of_darktable(amsnet, model, tmp_path):
    package = tmp_path / "my_camera.dtmodel"
    done = amsnet("export", model, "--to", "darktable", "-o", package)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{package}\n"
    assert "corrects brightness" in done.stderr and "turned copies" in done.stderr
    with zipfile.ZipFile(package) as archive:
        entries = archive.infolist()
        assert {e.filename for e in entries} == {"my_camera/config.json", "my_camera/model.onnx"}
        assert all(e.compress_type == zipfile.ZIP_DEFLATED for e in entries)
        config = json.loads(archive.read("my_camera/config.json"))
        graph = archive.read("my_camera/model.onnx")
    assert config["id"] == "my_camera" and config["version"].count(".") == 1
    assert (config["task"], config["backend"]) == ("denoise", "onnx")
    assert config["attributes"] == {"input_sizes": [768]}
    assert config["name"] and "Canon EOS 6D" in config["description"]
    assert all(isinstance(text, str) for text in config["model_card"].values())
    assert "turned copies" in config["model_card"]["notes"]

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for ends, name in ((session.get_inputs(), "input"), (session.get_outputs(), "output")):
        assert [(e.name, e.type, e.shape) for e in ends] == [
            (name, "tensor(float)", [1, 3, 768, 768])
        ]
    assert onnx.load_model_from_string(graph).opset_import[0].version == 20
    assert difference(graph, load_model(model), real_tile(768, 768)) < TOLERANCE

    again = tmp_path / "again" / "my_camera.dtmodel"
    again.parent.mkdir()
    assert amsnet("export", model, "--to", "darktable", "-o", again).exit_code == 0
    assert again.read_bytes() == package.read_bytes()


def test_a_plain_graph_takes_any_size_and_names_its_limits(amsnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert amsnet("export", "photo", "--to", "onnx", "-q").stdout == "amsnet-photo.onnx\n"
    graph = Path("amsnet-photo.onnx").read_bytes()
    for size in ((96, 112), (8, 40)):
        assert difference(graph, load_model("photo"), real_tile(*size)) < TOLERANCE
    properties = onnx.load_model_from_string(graph).metadata_props
    facts = {item.key: item.value for item in properties}
    assert facts["multiple"] == "8" and facts["licence"] == "MIT"
    assert len(json.loads(facts["left_out"])) == 4
    loud = np.where(real_tile(64, 64) > 0.5, 1, 0).astype(np.float32)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (clean,) = session.run(None, {"input": loud})
    assert clean.min() >= 0 and clean.max() <= 1


def test_a_plain_name_for_the_package_of_any_model(amsnet, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = amsnet("export", model, "--to", "darktable")
    assert done.stdout == "amsnet-my-shots-ISO-3200.dtmodel\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("raw", "--to", "darktable"), 2, "mosaics of RAW files"),
        (("nothing", "--to", "darktable"), 4, "no weights or fitted model named nothing"),
        (("photo", "--to", "onnx", "-o", "x.dtmodel"), 2, "add .onnx"),
        (("photo", "--to", "darktable", "-o", "my camera.dtmodel"), 2, "my_camera.dtmodel"),
        (("photo", "--to", "onnx", "-o", "no/x.onnx"), 1, "a folder that can be written"),
        (("photo", "--to", "onnx", "-o", "taken.onnx"), 1, "exists already"),
    ],
)
def test_one_line_says_what_is_wrong(amsnet, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    Path("taken.onnx").write_text("mine")
    refused = amsnet("export", *arguments)
    assert (refused.exit_code, refused.stderr.count("\n")) == (code, 1)
    assert message in refused.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["taken.onnx"]
    assert Path("taken.onnx").read_text() == "mine"


def test_models_that_run_by_masks_stay(amsnet, tiny_model, mosaic_model, tmp_path):
    refused = amsnet("export", tiny_model, "--to", "onnx", "-o", tmp_path / "x.onnx")
    assert refused.exit_code == 2 and "single pass" in refused.stderr
    save_mosaic_model(tmp_path / "mosaic.safetensors", mosaic_model.network)
    refused = amsnet("export", tmp_path / "mosaic.safetensors", "--to", "darktable")
    assert refused.exit_code == 2 and "mosaics" in refused.stderr
    assert not (tmp_path / "x.onnx").exists()


def test_without_the_extra_a_line_says_how_to_get_it(amsnet, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    refused = amsnet("export", model, "--to", "onnx")
    assert refused.exit_code == 2 and "pip install 'amsnet[export]'" in refused.stderr


def test_a_fit_that_could_not_be_exported_does_not_begin(amsnet, noisy_png, home):
    for more in (("--from-scratch",), ("--preset", "masked")):
        refused = amsnet("fit", noisy_png.parent, "--export", "darktable", *more)
        assert refused.exit_code == 2 and "single pass" in refused.stderr
    assert not list(home.rglob("*.safetensors"))


@pytest.mark.slow
@pytest.mark.usefixtures("few_validation_patches")
def test_a_fit_writes_its_package_as_well(amsnet, tmp_path, clean_crop):
    (tmp_path / "shots").mkdir()
    for i in range(2):
        noisy = with_coarse_noise(np.roll(clean_crop, 40 * i, 1), 6, i)
        Image.fromarray(noisy).save(tmp_path / "shots" / f"{i}.png")
    done = amsnet(
        "fit", tmp_path / "shots", "-o", tmp_path / "m.safetensors", "--export", "darktable",
        "--steps", 24, "--batch", 6, "--patch-size", 64,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert f"exported: {tmp_path / 'amsnet-m.dtmodel'}" in done.stderr
    with zipfile.ZipFile(tmp_path / "amsnet-m.dtmodel") as archive:
        graph = archive.read("amsnet-m/model.onnx")
    fitted = load_model(tmp_path / "m.safetensors")
    assert difference(graph, fitted, real_tile(768, 768)) < TOLERANCE


@pytest.mark.realdata
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real photos at {SHARED}")
@pytest.mark.parametrize("weights", ["photo", "fine"])
def test_no_seam_where_darktable_joins_its_tiles(amsnet, tmp_path, weights):
    package = tmp_path / "m.dtmodel"
    assert amsnet("export", weights, "--to", "darktable", "-o", package).exit_code == 0
    with zipfile.ZipFile(package) as archive:
        session = onnxruntime.InferenceSession(
            archive.read("m/model.onnx"), providers=["CPUExecutionProvider"]
        )
    path = sorted((SHARED / "sidd10" / "noisy").iterdir())[0]
    image = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
    whole = denoised_whole(load_model(weights), image)
    inner, (height, width) = SIDE - 2 * OVERLAP, image.shape[:2]
    rows, columns = -(-height // inner) * inner, -(-width // inner) * inner
    ends = ((OVERLAP, rows - height + OVERLAP), (OVERLAP, columns - width + OVERLAP), (0, 0))
    padded = np.pad(image, ends, "reflect")
    joined = np.empty((rows, columns, 3), np.float32)
    for top in range(0, rows, inner):
        for left in range(0, columns, inner):
            tile = padded[top : top + SIDE, left : left + SIDE].transpose(2, 0, 1)[None]
            (clean,) = session.run(None, {"input": np.ascontiguousarray(tile)})
            joined[top : top + inner, left : left + inner] = clean[0].transpose(1, 2, 0)[
                OVERLAP:-OVERLAP, OVERLAP:-OVERLAP
            ]
    # At the picture's own edges darktable mirrors it, and amsnet does not.
    within = np.abs(joined[:height, :width] - whole)[80:-80, 80:-80]
    print(
        f"{weights}: {255 * within.max():.2f} of 255 at most, {255 * within.mean():.3f} on average"
    )
    # Each tile has its own estimate of the noise.
    assert inner < height - 80 and within.max() < 2 / 255 and within.mean() < 0.2 / 255


def denoised_whole(model: Model, image: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        x = torch.from_numpy(image).permute(2, 0, 1)[None]
        return single_pass(model.network, x)[0].clamp(0, 1).permute(1, 2, 0).numpy()
