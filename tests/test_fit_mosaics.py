"""`fit` on the mosaics of RAW files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from torch import nn

from amsnet_cli.core.networks.compact import CompactUNetConfig
from amsnet_cli.core.networks.mosaic import MosaicNetwork, MosaicNetworkConfig
from amsnet_cli.errors import PhotoError, UsageError
from amsnet_cli.fitting.distributed import DistributedContext
from amsnet_cli.fitting.events import FitEvent, FolderProfiled, ImageSkipped, StepDone
from amsnet_cli.fitting.fit import fit
from amsnet_cli.fitting.images import load_images
from amsnet_cli.fitting.kind import kind_of_fit
from amsnet_cli.fitting.mosaic_images import read_mosaic_crops
from amsnet_cli.fitting.mosaic_objective import MosaicObjective
from amsnet_cli.fitting.mosaic_patches import MosaicPatches
from amsnet_cli.fitting.options import FitOptions
from amsnet_cli.model import load_model
from amsnet_cli.mosaic_model import MosaicModel, load_mosaic_model, save_mosaic_model
from amsnet_cli.noise.sensor import SensorNoise
from amsnet_cli.photos.find import find_photos
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo
from amsnet_cli.weights.store import find_weights, models_dir
from tests.dng_files import BLACK, NEUTRAL, RGGB, WHITE, XTRANS, dng, doubles

pytestmark = pytest.mark.usefixtures("few_validation_patches")

CPU = torch.device("cpu")
LAW = SensorNoise(a=2e-3, b=4e-6)
SHORT = FitOptions(steps=4, batch=2, patch_size=32, seed=1)
SMALL = MosaicNetworkConfig(
    unet=CompactUNetConfig(in_channels=7, out_channels=1, widths=(8, 8), blocks=(1, 1), unshuffle=2)
)


def clean_light(pattern: np.ndarray, roll: int = 0) -> np.ndarray:
    """What a sensor would record without noise, (160, 192), 0 at black and 1 at white."""
    picture = np.roll(skimage.data.astronaut()[:160, 140:332] / 255, roll, 1) ** 2.2
    gains = picture * np.array(NEUTRAL)
    index = np.tile(pattern, (-(-160 // len(pattern)), -(-192 // len(pattern))))[:160, :192]
    return np.take_along_axis(gains, index[..., None], 2)[..., 0]


def noisy_dng(pattern: np.ndarray = RGGB, seed: int = 0, told: bool = True) -> bytes:
    light = clean_light(pattern, 40 * seed)
    rng = np.random.default_rng(seed)
    noisy = rng.poisson(light / LAW.a) * LAW.a + rng.normal(0, LAW.b**0.5, light.shape)
    frame = (BLACK + noisy * (WHITE - BLACK)).round().clip(0, 65535).astype(np.uint16)
    return dng(frame, pattern=pattern, tags={51041: doubles(LAW.a, LAW.b)} if told else {})


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = tmp_path / "shots"
    folder.mkdir()
    for seed in range(2):
        (folder / f"{seed}.dng").write_bytes(noisy_dng(seed=seed))
    return folder


@pytest.fixture
def start(tmp_path: Path) -> MosaicModel:
    """A small network that smooths a little, as it was never trained."""
    torch.manual_seed(0)
    network = MosaicNetwork(SMALL)
    return MosaicModel(network=network.eval(), name="small")


class Blur(nn.Module):
    """Blends each photosite with the mean of neighbours of its colour."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.inner = MosaicNetwork(SMALL)

    def forward(self, mosaic, sigma, colours, hidden):
        mean, _ = self.inner._neighbours(mosaic, colours, torch.ones_like(mosaic))
        return mosaic + self.share * (mean - mosaic)


def objective_of(folder: Path, *, terms=("recorrupt",), law=LAW, patches=8) -> MosaicObjective:
    images = load_images(folder, read_mosaic_crops, max_pixels=10**6, seed=0)
    denoised = [clean_light(RGGB, 40 * crop.image).astype(np.float32) for crop in images.crops]
    laws = [(law,)] * len(images.paths)
    return MosaicObjective(
        MosaicPatches(images, denoised, laws, size=32, seed=0),
        terms=terms, batch=4, alpha=0.5, mask_ratio=0.5, law_uncertainty=1.25,
        distributed=DistributedContext(), device=CPU, validation_patches=patches,
    )  # fmt: skip


@torch.inference_mode()
def test_the_risk_is_the_error_against_the_clean_mosaic(shots):
    """Recorruption sees no clean mosaic, and yet orders networks as the clean ones do."""
    objective = objective_of(shots, patches=200)
    networks = [Blur(share) for share in (0.1, 0.4, 0.9)]
    risks = [float(objective.validation_losses(n)[0].mean()) for n in networks]
    truth = []
    for network in networks:
        errors = []
        for patch in objective.patches.cover(200):
            # As recorruption does: with noise 1 + alpha^2 times as strong.
            for seed in range(2):
                generator = torch.Generator().manual_seed(seed)
                noise = patch.variance.sqrt() * torch.randn(patch.noisy.shape, generator=generator)
                example = objective._recorrupted(patch, noise)
                output = objective._output(
                    network, type(example)(**{k: v[None] for k, v in vars(example).items()})
                )
                squares = (output[0] - patch.denoised).square() / patch.variance
                errors.append(float(squares[patch.counts].mean()))
        truth.append(float(np.mean(errors)))
    assert truth[1] < truth[0] and truth[1] < truth[2], "too little, right, too much"
    assert np.allclose(risks, truth, rtol=0.1), (risks, truth)


def test_what_is_held_out_trains_nothing(shots):
    """Other values there change the loss of no training step."""
    losses = []
    for change in (0, 500):
        objective = objective_of(shots, terms=("recorrupt", "renoise"))
        crops, held_out = objective.patches.images.crops, objective.patches._held_out
        for crop, places in zip(crops, held_out, strict=True):
            crop.mosaic.values[places] += change
        # A network that sees each photosite alone: others may see what is held out.
        losses.append(float(objective.loss(Blur(0.0), 0)))
    assert losses[0] == losses[1]


def test_masked_prediction_is_blind(shots):
    """The output at a hidden photosite does not depend on the value there."""
    objective = objective_of(shots, terms=("mask",))
    torch.manual_seed(0)
    network = MosaicNetwork(SMALL)
    patch = objective.patches.draw(np.random.default_rng(0))
    example = objective._example("mask", patch, torch.Generator().manual_seed(0))
    assert bool((example.counts <= example.hidden).all()) and example.hidden.float().mean() > 0.4
    batch = type(example)(**{k: v[None] for k, v in vars(example).items()})
    other = torch.where(batch.hidden, torch.rand_like(batch.given), batch.given)
    changed = type(example)(**{**vars(batch), "given": other})
    assert torch.equal(objective._output(network, batch), objective._output(network, changed))


@pytest.mark.parametrize("pattern", [RGGB, np.roll(RGGB, 1, 1), XTRANS])
def test_patches_begin_with_red_however_they_are_turned(tmp_path, pattern):
    (tmp_path / "a.dng").write_bytes(noisy_dng(pattern))
    images = load_images(tmp_path, read_mosaic_crops, max_pixels=10**6, seed=0)
    clean = [clean_light(pattern).astype(np.float32)]
    patches = MosaicPatches(images, clean, [(LAW,)], size=32, seed=0)
    for seed in range(12):
        patch = patches.draw(np.random.default_rng(seed))
        assert patch.noisy.shape == (1, 32, 32) and bool((patch.colours.sum(0) == 1).all())
        if pattern is not XTRANS:
            assert patch.colours[:, 0, 0].tolist() == [1, 0, 0]
            assert patch.colours[:, 0, 1].tolist() == [0, 1, 0]
        error = (patch.noisy - patch.denoised) / patch.variance.sqrt()
        assert 0.8 < float(error[patch.counts].std()) < 1.2


@pytest.mark.slow
def test_learns_from_scratch_from_noise_alone(tmp_path, shots):
    """Fresh weights, few steps: the risk falls where nothing was trained."""
    output = tmp_path / "m.safetensors"
    options = FitOptions(steps=40, batch=4, patch_size=32)
    events: list[FitEvent] = []
    result = fit(shots, output, options, on_event=events.append)
    assert result.settings.terms == ("mask", "recorrupt")
    assert (
        result.best.improvement > 0.05 and result.best.improvement > 4 * result.best.standard_error
    )
    [profile] = [event.profile for event in events if isinstance(event, FolderProfiled)]
    assert profile.cameras == {"Test One": [6400, 6400]}
    [law] = profile.laws
    assert law.a == pytest.approx(LAW.a) and law.photos == 2
    assert load_mosaic_model(output).network.config == MosaicNetworkConfig()


def test_same_seed_same_bytes_interrupted_or_not(tmp_path, shots, start):
    whole, parts = (tmp_path / f"{n}.safetensors" for n in ("whole", "parts"))
    options = FitOptions(preset="masked", steps=6, batch=2, patch_size=32, learning_rate=3e-3)
    assert fit(shots, whole, options, start=start).model
    torch.manual_seed(99)
    asked = iter([False] * 3 + [True])
    first = fit(shots, parts, options, start=start, stopped=lambda: next(asked))
    assert first.interrupted and first.steps == 3
    assert load_mosaic_model(parts), "the model so far is saved"
    events: list[FitEvent] = []
    fit(shots, parts, options, start=start, resume=True, on_event=events.append)
    assert [event.step for event in events if isinstance(event, StepDone)] == [4, 5, 6]
    assert parts.read_bytes() == whole.read_bytes()


def test_no_gain_no_model(tmp_path, shots, start):
    options = FitOptions(steps=2, batch=2, patch_size=32, learning_rate=1e-12)
    result = fit(shots, tmp_path / "m.safetensors", options, start=start)
    assert result.model is None and "no significant improvement over small" in result.reason
    assert not list(tmp_path.glob("m.*"))


def test_mixed_folders(tmp_path, shots, start):
    """As many RAW files as others: mosaics. Fewer: developed photos. The rest is left out, said."""
    for i in range(2):
        write_photo(Photo(pixels=np.full((64, 64, 3), 90, np.uint8)), shots / f"{i}.jpg")
    events: list[FitEvent] = []
    result = fit(shots, tmp_path / "m.safetensors", SHORT, start=start, on_event=events.append)
    left_out = [event.reason for event in events if isinstance(event, ImageSkipped)]
    assert left_out == ["2 developed: RAW files are fitted before development"]
    assert result.photos == 2
    (shots / "1.dng").unlink()
    kind = kind_of_fit(shots, "*", "auto")
    assert not kind.mosaics and kind.left_out.startswith("1 RAW: most photos are developed")
    assert [path.name for path in find_photos(shots) if kind.suits(path)] == ["0.jpg", "1.jpg"]
    kinds = [kind_of_fit(shots, "*", raw) for raw in ("mosaic", "developed")]
    assert kinds[0].mosaics and not kinds[0].suits(shots / "0.jpg")
    assert not kinds[1].mosaics and all(map(kinds[1].suits, find_photos(shots)))
    assert not kind_of_fit(shots, "*.jpg", "auto").left_out


def test_a_start_for_the_other_kind_is_refused(tmp_path, shots, start):
    photo = load_model(find_weights(None), "photo")
    output = tmp_path / "m.safetensors"
    with pytest.raises(UsageError, match="photo is for developed photos"):
        fit(shots, output, SHORT, start=photo)
    with pytest.raises(UsageError, match="small is for mosaics"):
        fit(shots, output, FitOptions(raw="developed"), start=start)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (FitOptions(pd_stride=2), "--pd-stride"), (FitOptions(mask_ratio=0.3), "--mask-ratio"),
        (FitOptions(patch_size=40), "multiple of 16"), (FitOptions(preset="paper"), "paper"),
    ],
)  # fmt: skip
def test_what_mosaics_have_no_use_for_is_refused(tmp_path, shots, start, options, why):
    with pytest.raises(UsageError, match=why):
        fit(shots, tmp_path / "m.safetensors", options, start=start)


def test_files_without_a_mosaic_are_skipped(tmp_path, start):
    (tmp_path / "x.dng").write_bytes(noisy_dng()[:300])
    with pytest.raises(PhotoError, match="none of its 1 photos"):
        fit(tmp_path, tmp_path / "m.safetensors", SHORT, start=start)


def test_command(amsnet, shots, start, tmp_path):
    """Fit, list, choose by camera, denoise, refuse: as for developed photos."""
    weights = tmp_path / "small.safetensors"
    save_mosaic_model(weights, start.network, dtype=torch.float32)
    quick = ("--preset", "masked", "--steps", 6, "--batch", 4, "--patch-size", 32, "--lr", "3e-3")
    result = amsnet("fit", shots, "-w", weights, *quick, "--json")
    assert result.exit_code == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert {"read", "measure", "profile", "step", "validation", "compare"} < {
        event["event"] for event in events
    }
    assert events[-1]["model"] == str(models_dir() / "shots.safetensors")
    page = (models_dir() / "shots.html").read_text("utf-8")
    assert "<svg" in page and page.count("data:image/jpeg") >= 4
    listed = amsnet("weights", "list")
    assert "fitted on shots, to Test One, ISO 6400" in " ".join(listed.stdout.split())
    raw, out = shots / "0.dng", tmp_path / "x.dng"
    auto = amsnet("denoise", raw, "-o", out, "-w", "auto")
    assert auto.exit_code == 0 and "fitted to Test One, ISO 6400" in auto.stderr
    named = amsnet("denoise", raw, "-o", tmp_path / "y.dng", "-w", "shots")
    assert named.exit_code == 0 and (tmp_path / "y.dng").read_bytes() == out.read_bytes()
    other = amsnet("denoise", raw, "-o", tmp_path / "z.dng", "-w", "photo")
    assert other.exit_code != 0 and "photo are for developed photos" in other.stderr
    jpeg = tmp_path / "a.jpg"
    write_photo(Photo(pixels=np.full((64, 64, 3), 90, np.uint8)), jpeg)
    other = amsnet("denoise", jpeg, "-o", tmp_path / "b.jpg", "-w", "shots")
    assert other.exit_code != 0 and "shots are for mosaics of RAW files" in other.stderr
