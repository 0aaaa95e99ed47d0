from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amsnet_cli.core.blend import LUMA, blend, texture
from amsnet_cli.denoising import DenoiseOptions, denoise
from amsnet_cli.model import load_model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.read import read_photo

SHARES = st.floats(0, 1, width=32)


STRIPES = 0.15 * torch.sin(torch.arange(32) * 1.3)


def pictures(channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """A noisy and a denoised picture: flat, but for lost stripes in the right quarter."""
    generator = torch.Generator().manual_seed(0)
    denoised = torch.full((1, channels, 64, 128), 0.5)
    noisy = denoised + 0.05 * torch.randn(denoised.shape, generator=generator)
    noisy[..., 96:] += STRIPES
    return noisy, denoised


def luma_of(x: torch.Tensor) -> torch.Tensor:
    return (x * torch.tensor(LUMA)[:, None, None]).sum(1)


def parts(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split into brightness and colour."""
    brightness = x if x.shape[1] == 1 else luma_of(x)[:, None]
    return brightness, x - brightness


@pytest.mark.parametrize("channels", [1, 3])
class TestBlend:
    def test_the_ends(self, channels):
        noisy, denoised = pictures(channels)
        assert torch.equal(blend(noisy, denoised), denoised)
        assert torch.allclose(blend(noisy, denoised, 0, 0), noisy, atol=1e-6)
        assert torch.allclose(blend(noisy, denoised, 0, 0, 1), noisy, atol=1e-6)

    @given(luma=SHARES, chroma=SHARES, detail=SHARES)
    def test_linear_in_each(self, channels, luma, chroma, detail):
        noisy, denoised = pictures(channels)
        for name in ("luma", "chroma", "detail"):
            at = {"luma": luma, "chroma": chroma, "detail": detail}
            none, some, full = (
                blend(noisy, denoised, **{**at, name: value}) for value in (0.0, at[name], 1.0)
            )
            assert torch.allclose(some, none + at[name] * (full - none), atol=2e-6)

    @given(luma=SHARES, chroma=SHARES, detail=SHARES, step=SHARES)
    def test_monotone_in_each(self, channels, luma, chroma, detail, step):
        """More strength takes more of its own noise away at every pixel, more detail less."""
        noisy, denoised = pictures(channels)
        at = {"luma": luma, "chroma": chroma, "detail": detail}
        taken = parts(noisy - blend(noisy, denoised, **at))
        for name, sign in (("luma", 1), ("chroma", 1), ("detail", -1)):
            more = {**at, name: at[name] + step * (1 - at[name])}
            change = parts(noisy - blend(noisy, denoised, **more))
            own, other = (1, 0) if name == "chroma" else (0, 1)
            assert (sign * (change[own].abs() - taken[own].abs())).min() > -1e-6
            assert torch.allclose(change[other], taken[other], atol=1e-6), "the other is untouched"

    @given(luma=SHARES, detail=SHARES)
    def test_detail_never_gives_back_more_than_was_taken(self, channels, luma, detail):
        noisy, denoised = pictures(channels)
        plain, back = (blend(noisy, denoised, luma, 1.0, d) for d in (0.0, detail))
        taken = noisy - denoised
        if channels == 3:
            taken = luma_of(taken)[:, None]
        assert ((back - denoised).abs() <= taken.abs() + 1e-6).all()
        assert ((back - plain) * taken >= -1e-9).all()


def test_luma_and_chroma_are_apart():
    noisy, denoised = pictures()
    only_colour = blend(noisy, denoised, 0, 1)
    assert torch.allclose(luma_of(only_colour), luma_of(noisy), atol=1e-6)
    only_brightness = blend(noisy, denoised, 1, 0)
    assert torch.allclose(luma_of(only_brightness), luma_of(denoised), atol=1e-6)
    differences = only_brightness[:, 0] - only_brightness[:, 2]
    assert torch.allclose(differences, noisy[:, 0] - noisy[:, 2], atol=1e-6)


def test_detail_finds_lost_texture_and_leaves_noise_where_it_is():
    noisy, denoised = pictures()
    gain = texture(*(parts(x)[0] for x in (denoised, noisy - denoised)))
    assert gain[..., 8:-8, 8:80].mean() < 0.05
    assert gain[..., 8:-8, 104:-8].mean() > 0.7
    back = blend(noisy, denoised, detail=1)
    clean = denoised.clone()
    clean[..., 96:] += STRIPES
    before, after = ((x - clean)[..., 96:].square().mean() for x in (denoised, back))
    assert after < 0.3 * before


def test_detail_knows_that_noise_depends_on_brightness():
    generator = torch.Generator().manual_seed(0)
    denoised = torch.linspace(0, 1, 256).expand(1, 1, 128, 256)
    noise = torch.randn(denoised.shape, generator=generator) * (0.01 + 0.09 * denoised)
    assert texture(denoised, noise).mean() < 0.1


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2)])
def test_any_size(size):
    noisy = torch.rand(1, 3, *size)
    assert blend(noisy, noisy * 0.5, 0.5, 0.5, 0.5).isfinite().all()


class TestOptions:
    def test_strength_is_for_both_and_each_can_be_its_own(self, tiny_model, noisy_crop):
        model = load_model(tiny_model)
        photo = Photo(pixels=(noisy_crop / np.float32(255)).astype(np.float32))

        def after(**wishes) -> np.ndarray:
            return denoise(photo, model, replace(DenoiseOptions(), **wishes)).pixels

        half = after(strength=0.5)
        assert np.array_equal(half, after(luma=0.5, chroma=0.5))
        assert np.array_equal(after(strength=0.5, luma=1.0), after(luma=1.0, chroma=0.5))
        assert not np.allclose(half, after(strength=0.5, detail=0.8))
        luma = np.array(LUMA, np.float32)
        assert np.allclose(after(luma=0.0) @ luma, photo.pixels @ luma, atol=1e-6)

    def test_on_the_command_line(self, amsnet, noisy_png, tiny_model, tmp_path):
        outputs = []
        for i, wishes in enumerate(
            (["--strength", 0.5], ["--luma", 0.5, "--chroma", 0.5], ["--luma", 0.5, "--detail", 1])
        ):
            out = tmp_path / f"{i}.tif"
            result = amsnet("denoise", noisy_png, "-o", out, "-w", tiny_model, *wishes)
            assert result.exit_code == 0, result.stderr
            outputs.append(read_photo(out).pixels)
        assert np.array_equal(outputs[0], outputs[1])
        assert not np.array_equal(outputs[0], outputs[2])
