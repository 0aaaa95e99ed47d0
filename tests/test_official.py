"""The networks that the authors of AMSNet published: their structure and their numbers."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amsnet_cli.core.multi_mask import multi_mask_pass
from amsnet_cli.core.networks import DeamNet, DnCNN, MaskedNetwork, NAFNet, Restormer, UNet
from amsnet_cli.core.networks.nafnet import BaselineBlock
from amsnet_cli.core.pixel_shuffle import pd_up
from tests.conftest import SHARED

OFFICIAL = SHARED.parent / "official"
NETWORKS = {
    "restormer": Restormer,
    "deamnet": DeamNet,
    "nafnet": NAFNet,
    "unet": UNet,
    "dncnn": DnCNN,
}
PARAMETERS = {
    "restormer": 26_111_668,
    "deamnet": 2_228_131,
    "nafnet": 29_056_227,
    "unet": 7_935_555,
    "dncnn": 559_363,
}
# Of the published checkpoints, which have every key under `PREFIX`.
PREFIX = "net.dn.branches.0."
STRUCTURES = {
    "restormer": "de87496b080befc6066a9e8855a85384ad10f7448f04ac8fe646a16aed8b9456",
    "deamnet": "10f37edd5b2a062359e4fb74defb8c451bf9e66f23aebd8858af1dc14ad2c050",
    "nafnet": "bd12ae860569c61a74350f326cf6834711f30ad28e61cb79d841352cdcf5a69a",
    "unet": "6e3a1afbc692029f5d5bace92fe028e4862aa5f0f0be30d919631027d075fc2a",
}
GAINS = {"restormer": 1.0, "deamnet": 0.7, "nafnet": 1.0, "unet": 1.4142, "dncnn": 1.4142}

names = pytest.mark.parametrize("name", NETWORKS)


@names
def test_parameter_count(name):
    assert sum(p.numel() for p in NETWORKS[name]().parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", STRUCTURES)
def test_keys_and_shapes_are_those_of_the_published_checkpoint(name):
    lines = sorted(
        f"{PREFIX}{key}:{'x'.join(map(str, tensor.shape))}:F32"
        for key, tensor in NETWORKS[name]().state_dict().items()
    )
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == STRUCTURES[name]


@names
@torch.inference_mode()
def test_any_size_keeps_its_shape(name):
    network = MaskedNetwork(NETWORKS[name](), fill="zeros", mask_channel=False).eval()
    mask = torch.zeros(2, 1, 17, 35, dtype=torch.bool)
    mask[..., ::2, ::3] = True
    denoised = network(torch.rand(2, 3, 17, 35), mask)
    assert denoised.shape == (2, 3, 17, 35)
    assert denoised.dtype == torch.float32
    assert denoised.isfinite().all()


@torch.inference_mode()
def test_nafnet_is_padded_with_zeros_as_its_authors_do():
    torch.manual_seed(0)
    network = NAFNet().eval()
    for block in network.modules():
        if isinstance(block, BaselineBlock):
            block.beta.fill_(0.5)
    nothing = torch.zeros(1, 1, 20, 33, dtype=torch.bool)
    x = torch.rand(1, 3, 20, 33)
    whole = torch.zeros(1, 3, 32, 48)
    whole[..., :20, :33] = x
    masked = MaskedNetwork(network, fill="zeros", mask_channel=False)
    expected = network(whole)[..., :20, :33]
    assert torch.allclose(masked(x, nothing), expected, atol=1e-5)


@pytest.mark.parametrize(("name", "column"), [("dncnn", 192), ("unet", 192 + 29)])
def test_reach_is_how_far_away_a_pixel_can_change_another(name, column, monkeypatch):
    """At the column where pooling makes it farthest."""
    monkeypatch.setattr(F, "max_pool2d", F.avg_pool2d)  # of a maximum, gradients show one pixel
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    x = torch.rand(1, 3, 32, 384, requires_grad=True)
    network(x)[0, :, :, column].sum().backward()
    seen = x.grad.abs().sum((0, 1, 2)).nonzero() - column
    assert seen.abs().max() == network.reach


@names
def test_every_trainable_tensor_takes_part(name):
    """So that several processes can share the training; DeamNet has some that do nothing."""
    network = NETWORKS[name]()
    network(torch.rand(1, 3, 32, 32)).sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), key
    idle = {n.split(".")[1] for n, p in network.named_parameters() if not p.requires_grad}
    unused = {"conv_dila1", "conv_dila2", "conv_dila3", "cat1"} if name == "deamnet" else set()
    assert idle == unused


class Golden(NamedTuple):
    network: nn.Module
    state_dict: list[Any]
    vectors: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=NETWORKS)
def golden(request: pytest.FixtureRequest) -> Golden:
    """A network filled by the rule of official/README.md, and what is known about it."""
    if not OFFICIAL.is_dir():
        pytest.skip(f"needs the authors' networks as facts, in {OFFICIAL}")
    name = request.param
    network = NETWORKS[name]().eval()
    fill(network, GAINS[name])
    facts = json.loads((OFFICIAL / f"{name}.json").read_text())
    return Golden(network, facts["state_dict"], dict(np.load(OFFICIAL / f"{name}.npz")))


def fill(network: nn.Module, gain: float) -> None:
    filled = {}
    for k, (key, tensor) in enumerate(network.state_dict().items()):
        values = np.random.RandomState(1000 + k).standard_normal(tensor.numel())
        if tensor.ndim >= 2:
            values *= gain / np.sqrt(tensor.numel() / tensor.shape[0])
        elif key.endswith("running_var"):
            values = 0.5 + np.abs(values)
        elif key.endswith("weight"):
            values = 1 + 0.1 * values
        else:
            values = 0.1 * values
        new = torch.from_numpy(values.astype(np.float32)).reshape(tensor.shape)
        filled[key] = new if tensor.is_floating_point() else tensor
    network.load_state_dict(filled, strict=True)


def picture(seed: int, side: int) -> Tensor:
    values = np.random.RandomState(seed).random_sample((1, 3, side, side))
    return torch.from_numpy(values.astype(np.float32))


def relative_error(result: Tensor, expected: np.ndarray) -> float:
    return float(np.abs(result.numpy() - expected).max() / np.abs(expected).max())


def test_state_dict_is_the_listed_one(golden):
    state_dict = golden.network.state_dict()
    assert [[k, list(t.shape), str(t.dtype)] for k, t in state_dict.items()] == golden.state_dict


@torch.inference_mode()
def test_golden_network(golden):
    assert relative_error(golden.network(picture(1, 64)), golden.vectors["y"]) < 1e-4


@torch.inference_mode()
def test_golden_multi_mask_pass(golden):
    network = MaskedNetwork(golden.network, fill="zeros", mask_channel=False)
    # The vectors have the mask index of each sub-image; the pass takes the picture's.
    mask_index = pd_up(torch.from_numpy(golden.vectors["mask_index"]), 2, (128, 128))
    n_masks = int(mask_index.max()) + 1
    result = multi_mask_pass(network, picture(2, 128), mask_index, n_masks, stride=2)
    assert relative_error(result, golden.vectors["mmdb"]) < 1e-4
