from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from amsnet_cli.core.losses import masked_l1, prior_smoothing
from amsnet_cli.core.masks import fill_masked, partition_masks, random_mask
from amsnet_cli.core.multi_mask import (
    multi_mask_pass,
    random_replacement,
    self_ensemble,
    single_pass,
)
from amsnet_cli.core.networks import LIGHT, CompactUNet, CompactUNetConfig, MaskedNetwork
from amsnet_cli.core.pixel_shuffle import pad_to_multiple, pd_down, pd_up
from amsnet_cli.inference.run import MAX_OVERLAP
from amsnet_cli.model import load_model
from amsnet_cli.weights.store import find_weights

sides = st.integers(1, 40)
strides = st.integers(1, 7)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestDownsampling:
    @given(sides, sides, strides, st.integers(1, 3), st.integers(1, 4))
    def test_join_undoes_split_exactly(self, h, w, stride, batch, channels):
        x = torch.rand(batch, channels, h, w, generator=seeded())
        down = pd_down(x, stride)
        assert down.shape == (batch * stride**2, channels, -(-h // stride), -(-w // stride))
        assert torch.equal(pd_up(down, stride, (h, w)), x)

    def test_sub_images_are_strided_slices_in_row_major_order(self):
        x = torch.rand(2, 3, 12, 18)
        down = pd_down(x, 3).reshape(2, 3, 3, 3, 4, 6)
        for i in range(3):
            for j in range(3):
                assert torch.equal(down[:, i, j], x[..., i::3, j::3])

    @given(sides, sides, st.integers(1, 16))
    def test_padding_reflects_or_adds_zeros(self, h, w, multiple):
        x = torch.rand(1, 1, h, w)
        padded = pad_to_multiple(x, multiple)
        assert padded.shape[-2] % multiple == padded.shape[-1] % multiple == 0
        assert torch.equal(padded[..., :h, :w], x)
        if h > 1 and padded.shape[-2] > h:
            assert torch.equal(padded[..., h, :w], x[..., h - 2, :])
        zeros = pad_to_multiple(x, multiple, "zeros")
        assert zeros.shape == padded.shape and torch.equal(zeros[..., :h, :w], x)
        assert zeros.count_nonzero() == x.count_nonzero()


class TestMasks:
    @given(st.integers(2, 9), sides, sides)
    def test_masks_cover_every_pixel_exactly_once(self, k, h, w):
        index = partition_masks(k, (2, h, w), seeded())
        assert index.shape == (2, 1, h, w)
        assert torch.equal(
            sum((index == j).int() for j in range(k)), torch.ones(2, 1, h, w, dtype=torch.int32)
        )

    @pytest.mark.parametrize("k", [2, 3, 4])
    def test_each_mask_covers_its_share(self, k):
        index = partition_masks(k, (1, 300, 300), seeded())
        for j in range(k):
            assert (index == j).float().mean() == pytest.approx(1 / k, abs=0.01)

    def test_masks_come_from_the_generator_alone(self):
        torch.manual_seed(1)
        first = partition_masks(3, (1, 9, 9), seeded(5))
        torch.manual_seed(2)
        assert torch.equal(first, partition_masks(3, (1, 9, 9), seeded(5)))
        assert not torch.equal(first, partition_masks(3, (1, 9, 9), seeded(6)))

    def test_training_masks_cover_each_image_s_own_ratio(self):
        mask = random_mask(torch.tensor([0.0, 0.25, 1.0]), (3, 200, 200), seeded())
        shares = mask.float().mean((1, 2, 3))
        assert shares[0] == 0 and shares[2] == 1 and shares[1] == pytest.approx(0.25, abs=0.02)

    @pytest.mark.parametrize("fill", ["mean", "zeros"])
    @given(sides, sides, st.integers(0, 99))
    @settings(max_examples=50)
    def test_fill_keeps_the_visible_and_forgets_the_masked(self, fill, h, w, seed):
        x = torch.rand(1, 3, h, w, generator=seeded(seed))
        mask = random_mask(torch.tensor([0.5]), (1, h, w), seeded(seed))
        filled = fill_masked(x, mask, fill)
        assert torch.equal(torch.where(mask, 0, filled), torch.where(mask, 0, x))
        other = torch.where(mask, torch.rand_like(x), x)
        assert torch.equal(fill_masked(other, mask, fill), filled)
        assert filled.isfinite().all()

    def test_mean_fill_of_a_constant_is_the_constant(self):
        x = torch.full((1, 3, 30, 30), 0.7)
        for share in (0.5, 0.97, 0.999):
            mask = random_mask(torch.tensor([share]), (1, 30, 30), seeded())
            assert not mask.all()
            assert torch.allclose(fill_masked(x, mask, "mean"), x)

    def test_mean_fill_weighs_edges_twice(self):
        x = torch.tensor([[1.0, 2, 3], [4, 0, 5], [6, 7, 8]])[None, None]
        mask = torch.zeros(1, 1, 3, 3, dtype=torch.bool)
        mask[..., 1, 1] = True
        expected = (1 + 3 + 6 + 8 + 2 * (2 + 4 + 5 + 7)) / 12
        assert fill_masked(x, mask, "mean")[0, 0, 1, 1] == pytest.approx(expected)


class TestObjective:
    def test_only_masked_pixels_count(self):
        prediction, noisy = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
        mask = random_mask(torch.tensor([0.5, 0.3]), (2, 8, 8), seeded())
        loss = masked_l1(prediction, noisy, mask)
        expected = (prediction - noisy).abs()[mask.expand(-1, 3, -1, -1)].mean()
        assert loss == pytest.approx(expected.item())
        changed = torch.where(mask, prediction, torch.rand_like(prediction))
        assert masked_l1(changed, noisy, mask) == loss

    def test_nothing_masked_is_no_loss(self):
        x = torch.rand(1, 3, 4, 4)
        assert masked_l1(x, 1 - x, torch.zeros(1, 1, 4, 4, dtype=torch.bool)) == 0

    def test_prior_smoothing_is_distance_plus_variation(self):
        noisy = torch.zeros(1, 1, 4, 4)
        step = torch.zeros(1, 1, 4, 4)
        step[..., 2:] = 1.0
        assert prior_smoothing(step, noisy, 0.01) == pytest.approx(0.5 + 0.01 * 4 / 16)
        assert prior_smoothing(noisy, noisy) == 0


class Peeking(nn.Module):
    """As unrestricted as a network can be: every output depends on every visible input."""

    def forward(self, noisy: Tensor, mask: Tensor) -> Tensor:
        filled = fill_masked(noisy, mask, "mean")
        everything = filled.cumsum(-1) + filled.flip(-2).cumsum(-2) + filled.sum((-1, -2), True)
        return everything + 3 * filled + mask


def compact(**shape) -> MaskedNetwork:
    torch.manual_seed(0)
    config = CompactUNetConfig(**shape)
    return MaskedNetwork(CompactUNet(config), fill="mean", mask_channel=True).eval()


class TestBlindness:
    """AMSNet's theorem: no pixel of the multi-mask output depends on the same input pixel."""

    @pytest.mark.parametrize("network", [Peeking(), compact(widths=(8, 8), blocks=(1, 1))])
    @pytest.mark.parametrize("stride", [1, 2, 5])
    @pytest.mark.parametrize("k", [2, 4])
    @pytest.mark.parametrize("size", [(13, 11), (3, 2), (16, 16)])
    def test_a_pixel_never_sees_itself(self, network, stride, k, size):
        x = torch.rand(1, 3, *size, generator=seeded())
        index = partition_masks(k, (1, *size), seeded(1))
        with torch.no_grad():
            before = multi_mask_pass(network, x, index, k, stride)
            for row, column in [(0, 0), (size[0] - 1, size[1] - 1), (size[0] // 2, 1)]:
                changed = x.clone()
                changed[..., row, column] += 10
                after = multi_mask_pass(network, changed, index, k, stride)
                assert torch.equal(after[..., row, column], before[..., row, column])
                assert size == (3, 2) or not torch.equal(after, before)

    def test_the_single_pass_does_see_itself(self):
        x = torch.rand(1, 3, 8, 8)
        changed = x.clone()
        changed[..., 4, 4] += 1
        before, after = single_pass(Peeking(), x), single_pass(Peeking(), changed)
        assert not torch.equal(before[..., 4, 4], after[..., 4, 4])

    def test_all_orientations_together_have_none(self):
        network, x = compact(widths=(8, 8), blocks=(1, 1)), torch.rand(1, 3, 12, 10)
        with torch.no_grad():
            assert torch.equal(self_ensemble(network, x, 1), single_pass(network, x))
            turned = torch.rot90(x, 1, (2, 3)).flip(3)
            back = torch.rot90(self_ensemble(network, turned, 8).flip(3), -1, (2, 3))
            assert torch.allclose(self_ensemble(network, x, 8), back, atol=1e-5)
            halfway = torch.rot90(self_ensemble(network, torch.rot90(x, 2, (2, 3)), 2), 2, (2, 3))
            assert torch.allclose(self_ensemble(network, x, 2), halfway, atol=1e-5)
            assert not torch.allclose(single_pass(network, x), halfway, atol=1e-3)


class TestInference:
    @given(sides, sides, strides, st.integers(1, 4))
    @settings(max_examples=40)
    def test_each_pass_gives_the_pixels_it_masked(self, h, w, stride, k):
        passes = iter(range(1, k + 1))
        x = torch.rand(2, 3, h, w)
        index = partition_masks(k, (2, h, w), seeded())
        out = multi_mask_pass(lambda n, m: torch.full_like(n, next(passes)), x, index, k, stride)
        assert torch.equal(out, (index + 1).expand(-1, 3, -1, -1).float())

    @given(st.integers(1, 3), st.integers(1, 4))
    @settings(max_examples=20)
    def test_random_replacement_for_any_batch_and_channels(self, batch, channels):
        noisy = torch.ones(batch, channels, 90, 90)
        mixed = random_replacement(torch.zeros_like(noisy), noisy, 0.16, seeded())
        assert torch.equal(mixed, mixed[:, :1].expand_as(mixed)), "shared by the channels"
        assert mixed.mean((1, 2, 3)).sub(0.16).abs().max() < 0.02
        assert batch == 1 or not torch.equal(mixed[0], mixed[1])

    @pytest.mark.parametrize("size", [(1, 1), (1, 7), (33, 47), (5, 64)])
    @pytest.mark.parametrize("mask_channel", [True, False])
    @pytest.mark.parametrize("unshuffle", [1, 2])
    def test_networks_take_any_size(self, size, mask_channel, unshuffle):
        config = CompactUNetConfig(in_channels=3 + mask_channel, unshuffle=unshuffle)
        network = MaskedNetwork(CompactUNet(config), fill="zeros", mask_channel=mask_channel)
        x = torch.rand(2, 3, *size)
        with torch.no_grad():
            assert network(x, torch.rand(2, 1, *size) < 0.5).shape == x.shape


@pytest.mark.parametrize(
    ("config", "cost"),
    [(CompactUNetConfig(), 137_760), (LIGHT, 63_120)],
    ids=["default", "light"],
)
def test_networks_cost_what_their_docstring_says(config, cost):
    network = CompactUNet(config)
    side, total = 64, 0

    def count(module: nn.Conv2d, _, output: Tensor) -> None:
        nonlocal total
        total += module.weight.numel() * output.shape[-2] * output.shape[-1]

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
        else:
            assert not list(module.parameters(recurse=False)), "multiply-adds outside convolutions"
    network(torch.zeros(1, 4, side, side))
    assert total / side**2 == cost <= 170_000
    assert f"{cost:,}" in CompactUNet.__doc__


def test_the_default_weights_and_fits_from_scratch_are_of_one_shape():
    told = load_model(find_weights(None)).config.network.unet
    assert dataclasses.replace(told, in_channels=LIGHT.in_channels) == LIGHT


@pytest.mark.parametrize(
    "config",
    [CompactUNetConfig(), CompactUNetConfig(widths=(16, 24, 32), blocks=(1, 1, 2), unshuffle=2)],
)
def test_networks_reach_as_far_as_they_say_and_tiles_overlap_by_it(config):
    torch.manual_seed(0)
    network = CompactUNet(config)
    farthest = 0
    for offset in range(network.multiple):
        x = torch.rand(1, 4, 192, 16, requires_grad=True)
        network(x)[0, :, 96 + offset, 8].sum().backward()
        rows = x.grad.abs().sum((0, 1, 3)).nonzero() - 96 - offset
        farthest = max(farthest, int(rows.abs().max()))
    assert farthest == network.reach < MAX_OVERLAP
