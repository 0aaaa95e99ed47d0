"""How much noise is removed: `--strength`, `--luma`, `--chroma` and `--detail`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amsnet_cli.inference.denoise import DenoiseOptions, denoise
from amsnet_cli.model import load_model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.read import read_photo
from amsnet_cli.postprocess.block_stats import block_stats, split_luma
from amsnet_cli.postprocess.blocks import upsample_blocks
from amsnet_cli.postprocess.texture import blend_residual, blend_weights

SHARES = st.floats(0, 1, width=32)


STRIPES = 0.15 * torch.sin(torch.arange(64) * 1.3)


def noisy_and_denoised(channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """A noisy and a denoised picture: flat, but for lost stripes in the right quarter."""
    generator = torch.Generator().manual_seed(0)
    denoised = torch.full((channels, 64, 256), 0.5)
    noisy = denoised + 0.05 * torch.randn(denoised.shape, generator=generator)
    noisy[..., 192:] += STRIPES
    return noisy, denoised


def blend(noisy, denoised, luma=1.0, chroma=1.0, detail=0.0) -> torch.Tensor:
    removed = block_stats(noisy, denoised)
    weights = blend_weights(removed, luma, chroma, detail)
    share = upsample_blocks(weights, 0, *noisy.shape[1:])
    return blend_residual(noisy, denoised, share[:1], share[1:])


@pytest.mark.parametrize("channels", [1, 3])
class TestBlend:
    def test_the_ends(self, channels):
        noisy, denoised = noisy_and_denoised(channels)
        assert torch.equal(blend(noisy, denoised), denoised)
        assert torch.allclose(blend(noisy, denoised, 0, 0), noisy, atol=1e-6)
        assert torch.allclose(blend(noisy, denoised, 0, 0, 1), noisy, atol=1e-6)

    @settings(max_examples=10)
    @given(luma=SHARES, chroma=SHARES, detail=SHARES)
    def test_linear_in_each(self, channels, luma, chroma, detail):
        noisy, denoised = noisy_and_denoised(channels)
        for name in ("luma", "chroma", "detail"):
            at = {"luma": luma, "chroma": chroma, "detail": detail}
            none, some, full = (
                blend(noisy, denoised, **{**at, name: value}) for value in (0.0, at[name], 1.0)
            )
            assert torch.allclose(some, none + at[name] * (full - none), atol=2e-6)

    @settings(max_examples=10)
    @given(luma=SHARES, chroma=SHARES, detail=SHARES, step=SHARES)
    def test_monotone_in_each(self, channels, luma, chroma, detail, step):
        """More strength takes more of its own noise away at every pixel, more detail less."""
        noisy, denoised = noisy_and_denoised(channels)
        at = {"luma": luma, "chroma": chroma, "detail": detail}
        taken = split_luma(noisy - blend(noisy, denoised, **at))
        for name, sign in (("luma", 1), ("chroma", 1), ("detail", -1)):
            more = {**at, name: at[name] + step * (1 - at[name])}
            change = split_luma(noisy - blend(noisy, denoised, **more))
            own, other = (1, 0) if name == "chroma" else (0, 1)
            assert (sign * (change[own].abs() - taken[own].abs())).min() > -1e-6
            assert torch.allclose(change[other], taken[other], atol=1e-6), "the other is untouched"

    @settings(max_examples=10)
    @given(luma=SHARES, detail=SHARES)
    def test_detail_never_gives_back_more_than_was_taken(self, channels, luma, detail):
        noisy, denoised = noisy_and_denoised(channels)
        plain, back = (blend(noisy, denoised, luma, 1.0, d) for d in (0.0, detail))
        taken = split_luma(noisy - denoised)[0]
        assert ((back - denoised).abs() <= taken.abs() + 1e-6).all()
        assert ((back - plain) * taken >= -1e-9).all()


def test_luma_and_chroma_are_apart():
    noisy, denoised = noisy_and_denoised()
    (brightness, _), (_, colour) = split_luma(noisy), split_luma(denoised)
    assert torch.allclose(blend(noisy, denoised, 0, 1), brightness + colour, atol=1e-6)
    (brightness, _), (_, colour) = split_luma(denoised), split_luma(noisy)
    assert torch.allclose(blend(noisy, denoised, 1, 0), brightness + colour, atol=1e-6)


def test_detail_finds_lost_texture_and_leaves_noise_where_it_is():
    noisy, denoised = noisy_and_denoised()
    truth = denoised.clone()
    truth[..., 192:] += STRIPES
    back = blend(noisy, denoised, detail=1)
    lost, left = ((x - truth)[..., 200:].square().mean() for x in (denoised, back))
    assert left < 0.3 * lost
    assert (back - denoised)[..., :176].square().mean() < 0.1 * 0.05**2


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2)])
def test_any_size(size):
    noisy = torch.rand(3, *size)
    assert blend(noisy, noisy * 0.5, 0.5, 0.5, 0.5).isfinite().all()


class TestOptions:
    def test_strength_is_for_both_and_each_can_be_its_own(self, tiny_model, noisy_crop):
        model = load_model(tiny_model)
        photo = Photo(pixels=(noisy_crop / np.float32(255)).astype(np.float32))

        def after(**options) -> np.ndarray:
            return denoise(photo, model, replace(DenoiseOptions(), **options)).photo.pixels

        half = after(strength=0.5)
        assert np.array_equal(half, after(strength=1.0, luma=0.5, chroma=0.5))
        assert np.array_equal(
            after(strength=0.5, luma=1.0), after(strength=1.0, luma=1.0, chroma=0.5)
        )
        assert not np.allclose(half, after(strength=0.5, detail=0.8))
        brightness = [
            split_luma(torch.from_numpy(pixels).permute(2, 0, 1))[0]
            for pixels in (after(luma=0.0), photo.pixels)
        ]
        assert torch.allclose(*brightness, atol=1e-6)

    def test_on_the_command_line(self, amsnet, noisy_png, tiny_model, tmp_path):
        outputs = []
        for i, options in enumerate(
            (
                ["--strength", 0.5],
                ["--strength", 1, "--luma", 0.5, "--chroma", 0.5],
                ["--luma", 0.5, "--detail", 1],
            )
        ):
            out = tmp_path / f"{i}.tif"
            result = amsnet("denoise", noisy_png, "-o", out, "-w", tiny_model, *options)
            assert result.exit_code == 0, result.stderr
            outputs.append(read_photo(out).pixels)
        assert np.array_equal(outputs[0], outputs[1])
        assert not np.array_equal(outputs[0], outputs[2])
