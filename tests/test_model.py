from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from amsnet_cli.core.networks import CompactUNetConfig
from amsnet_cli.errors import OutputError, WeightsError
from amsnet_cli.model import Inference, ModelConfig, build_network, load_model, save_model
from amsnet_cli.weights.header import FORMAT
from amsnet_cli.weights.store import find_weights, models_dir

CONFIG = ModelConfig(
    network=CompactUNetConfig(widths=(8, 16), blocks=(1, 2)),
    fill="zeros",
    mask_channel=True,
    inference=Inference(passes="multi", n_masks=3, stride=4, repeats=2, refine=0.16),
    provenance={"fitted_on": "täst [/] folder", "steps": 7},
)


def test_a_model_comes_back_with_everything(tmp_path):
    path = tmp_path / "new" / "folder" / "m.safetensors"
    network = build_network(CONFIG)
    save_model(path, network, CONFIG)
    model = load_model(path)
    assert model.config == CONFIG
    assert model.name == "m"
    assert not model.network.training
    for key, tensor in network.state_dict().items():
        assert torch.equal(model.network.state_dict()[key], tensor)
    assert [p.name for p in path.parent.iterdir()] == ["m.safetensors"]


def test_the_same_model_gives_the_same_bytes(tmp_path):
    network = build_network(CONFIG)
    for name in "ab":
        save_model(tmp_path / name, network, CONFIG)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_half_precision_halves_the_file(tmp_path):
    network = build_network(CONFIG)
    save_model(tmp_path / "full", network, CONFIG)
    save_model(tmp_path / "half", network, CONFIG, torch.float16)
    assert (tmp_path / "half").stat().st_size < 0.6 * (tmp_path / "full").stat().st_size
    x = torch.rand(1, 3, 16, 16)
    mask = torch.rand(1, 1, 16, 16) < 0.5
    with torch.no_grad():
        full, half = (load_model(tmp_path / n).network(x, mask) for n in ("full", "half"))
    assert torch.allclose(full, half, atol=1e-3)


def test_the_networks_of_the_paper_are_models_too(tmp_path):
    config = ModelConfig(network="dncnn", fill="zeros", mask_channel=False)
    save_model(tmp_path / "m", build_network(config), config)
    assert load_model(tmp_path / "m").config == config
    with pytest.raises(ValueError, match="mask channel"):
        build_network(ModelConfig(network="dncnn", mask_channel=True))


def header(**changes) -> dict[str, str]:
    content = {"format": FORMAT, "network": {"widths": [8, 8], "blocks": [1, 1]}, "inference": {}}
    return {"amsnet": json.dumps({**content, **changes})}


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"amsnet": "no json"},
        header(network={"depth": 5}),
        header(inference={"magic": 1}),
        header(),  # fits, but the tensors do not
        header(network={"widths": [300_000, 300_000], "blocks": [1, 1]}),
        header(network={"widths": [8, 8], "blocks": [1, 10**9]}),
        header(network={"widths": [8] * 70, "blocks": [1] * 70}),
        header(network="restormer", mask_channel=False),
        header(network="nothing", mask_channel=False),
        header(cameras=[]),
        header(noise="pink"),
    ],
)
def test_foreign_files_are_refused(tmp_path, metadata):
    path = tmp_path / "x.safetensors"
    save_file({"head.weight": torch.zeros(3)}, path, metadata)
    with pytest.raises(WeightsError, match="not an amsnet model"):
        load_model(path)


@pytest.mark.parametrize(
    ("number", "hint"),
    [(1, "fit or import it again"), (99, "upgrade amsnet"), ("x", "upgrade amsnet")],
)
def test_other_formats_are_one_clear_line(amsnet, tmp_path, number, hint):
    path = tmp_path / "x.safetensors"
    save_file({"head.weight": torch.zeros(3)}, path, header(format=number))
    with pytest.raises(WeightsError, match=f"model format {number}, .* reads {FORMAT}; {hint}"):
        load_model(path)
    models_dir().mkdir()
    path.rename(models_dir() / "old.safetensors")
    shown = amsnet("weights", "verify", "old")
    assert shown.exit_code == 4 and hint in shown.stderr and shown.stderr.count("\n") == 1


def test_by_name_or_path(tmp_path):
    default, photo = load_model(), load_model("photo")
    assert (default.name, photo.name) == ("photo", "photo")
    assert default.config == photo.config == load_model(find_weights("photo")).config
    save_model(tmp_path / "m", build_network(CONFIG), CONFIG)
    assert load_model(str(tmp_path / "m")).config == load_model(tmp_path / "m").config == CONFIG
    with pytest.raises(WeightsError, match="there are: .*photo"):
        load_model("nothing")


def test_damaged_and_missing_files_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(WeightsError, match="no model at"):
        load_model(path)
    save_model(path, build_network(CONFIG), CONFIG)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="not an amsnet model"):
        load_model(path)


def test_a_pickle_is_never_run(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = tmp_path / "x.safetensors"
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(WeightsError):
        load_model(path)
    assert not (tmp_path / "ran").exists()


def test_what_cannot_be_written_is_one_error_and_leaves_nothing(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="choose another place"):
        save_model(tmp_path / "file" / "m.safetensors", build_network(CONFIG), CONFIG)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
