"""What a network says of hidden pixels becomes its single pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from amsnet_cli.core.masks import partition_masks
from amsnet_cli.core.multi_mask import multi_mask_pass, single_pass
from amsnet_cli.core.networks import CompactUNetConfig, MaskedNetwork
from amsnet_cli.fitting.distillation import DistillationConfig, distil
from amsnet_cli.fitting.images import ImageCrop, ImageFolder, load_images, read_developed, to_tensor
from amsnet_cli.fitting.options import FitOptions
from amsnet_cli.fitting.settings import MaskedSettings, resolve_settings
from amsnet_cli.model import ModelConfig, build_network
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo

CPU = torch.device("cpu")
SMALL = DistillationConfig(
    patch_size=32, training=replace(DistillationConfig().training, learning_rate=1e-2)
)


@pytest.fixture
def teacher() -> MaskedNetwork:
    """A fresh network, which says of a hidden pixel about the mean of those around it."""
    torch.manual_seed(0)
    return build_network(
        ModelConfig(network=CompactUNetConfig(widths=(16, 16), blocks=(1, 1)))
    ).eval()


@pytest.fixture
def photos(tmp_path, noisy_crop: np.ndarray) -> ImageFolder[ImageCrop]:
    write_photo(Photo(pixels=noisy_crop), tmp_path / "a.png")
    return load_images(tmp_path, read_developed, max_pixels=10**6, seed=0)


def settings_of(steps: int) -> MaskedSettings:
    settings = resolve_settings(
        FitOptions(preset="masked", steps=steps, pd_stride=1, pd_stride_test=1), None
    )
    assert isinstance(settings, MaskedSettings)
    return settings


@pytest.mark.slow
def test_a_single_pass_gives_the_mean_over_all_masks(teacher, photos, noisy_crop):
    shares: list[float] = []
    student = distil(
        teacher, photos, settings_of(2000), device=CPU, on_progress=shares.append, config=SMALL
    )
    assert student is not None and shares == sorted(shares) and len(shares) == 200
    noisy, generator = to_tensor(noisy_crop)[None], torch.Generator().manual_seed(0)
    size = (1, *noisy_crop.shape[:2])
    with torch.no_grad():
        outputs = torch.stack([
            multi_mask_pass(teacher, noisy, partition_masks(2, size, generator), 2)
            for _ in range(32)
        ])  # fmt: skip
        mean, output = outputs.mean(0), single_pass(student, noisy)
        untaught = single_pass(teacher, noisy)

    def distance(x: torch.Tensor) -> float:
        return float((x - mean).square().mean())

    assert distance(output) < 0.5 * distance(outputs[0])
    assert distance(untaught) > 10 * distance(output), "it returns its input"


def test_masks_stay_where_a_student_had_too_few_steps(teacher, photos):
    assert distil(teacher, photos, settings_of(10), device=CPU, on_progress=lambda x: None) is None


def test_the_same_seed_gives_the_same_student(teacher, photos):
    students = [
        distil(
            teacher,
            photos,
            settings_of(50),
            device=CPU,
            on_progress=lambda x: None,
            config=replace(SMALL, unlike=np.inf),
        )
        for _ in range(2)
    ]
    first, second = (student.state_dict() for student in students)
    assert all(torch.equal(first[key], second[key]) for key in first)
