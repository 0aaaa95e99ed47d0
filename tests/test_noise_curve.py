from __future__ import annotations

import numpy as np
import pytest
import torch

from amsnet_cli.noise.curve import interpolate


@pytest.mark.parametrize("unknown", [[], [0], [3, 4], [0, 1, 8], [0, 1, 2, 3, 5, 6, 7, 8]])
def test_missing_samples_are_interpolated_and_ends_constant(unknown):
    samples = torch.rand(9, generator=torch.Generator().manual_seed(0))
    samples[unknown] = torch.nan
    position = torch.linspace(-2, 10, 481).reshape(13, 37)
    known = [i for i in range(9) if i not in unknown]
    expected = np.interp(position.numpy(), known, samples[known].numpy())
    assert interpolate(samples, position).numpy() == pytest.approx(expected, abs=1e-6)
    at_samples = torch.tensor(known).float()
    assert torch.equal(interpolate(samples, at_samples), samples[known])
