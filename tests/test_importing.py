"""Foreign checkpoints: recognised exactly or refused, and nothing of them is ever run."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from amsnet_cli.core.networks import DeamNet, DnCNN
from amsnet_cli.errors import AmsnetError, OutputError, UsageError, WeightsError
from amsnet_cli.importing.checkpoint import read_checkpoint
from amsnet_cli.importing.import_weights import import_weights
from amsnet_cli.importing.structure import PREFIXES
from amsnet_cli.model import Inference, load_model
from amsnet_cli.photos.read import read_photo
from amsnet_cli.weights.manifest import git_blob_sha1_of, load_manifest
from amsnet_cli.weights.store import find_weights, models_dir, weights_dir
from tests.published_weights import entry
from tests.test_official import fill

LIGHTNING_PREFIX = "net.dn.branches.0."


@pytest.fixture(scope="module")
def dncnn() -> nn.Module:
    network = DnCNN()
    fill(network, 1.4142)
    return network.eval()


@pytest.fixture(scope="module")
def deamnet() -> nn.Module:
    network = DeamNet()
    fill(network, 0.7)
    return network.eval()


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> OrderedDict[str, Tensor]:
    return OrderedDict((prefix + key, tensor) for key, tensor in tensors.items())


def lightning(tensors: dict[str, Tensor]) -> dict[str, object]:
    """As Lightning saves weights only."""
    return {
        "epoch": 99, "global_step": 1_000_000, "pytorch-lightning_version": "2.0.9",
        "state_dict": prefixed(LIGHTNING_PREFIX, tensors),
        "loops": {"fit_loop": {"state_dict": {}, "progress": {"total": [1, 2.5, None, True]}}},
    }  # fmt: skip


class TestForms:
    """Each form in which checkpoints are found gives the same model."""

    @pytest.mark.parametrize("archive", [True, False], ids=["zip", "before 1.6"])
    @pytest.mark.parametrize("form", ["plain", "module", "lightning", "lightning on two GPUs"])
    def test_checkpoints(self, tmp_path, dncnn, form, archive):
        tensors = dncnn.state_dict()
        content = {
            "plain": tensors,
            "module": prefixed("module.", tensors),
            "lightning": lightning(tensors),
            "lightning on two GPUs": lightning(prefixed("module.", tensors)),
        }[form]
        path = tmp_path / "some net.ckpt"
        torch.save(content, path, _use_new_zipfile_serialization=archive)
        done = import_weights(path)
        assert (done.name, done.path) == ("some net", models_dir() / "some net.safetensors")
        model = load_model(find_weights("some net"))
        assert model.config.network == "dncnn"
        for key, tensor in tensors.items():
            assert torch.equal(model.network.network.state_dict()[key], tensor.float())

    def test_safetensors_without_our_header(self, tmp_path, dncnn):
        path = tmp_path / "net.safetensors"
        save_file(prefixed("module.", dncnn.state_dict()), path)
        assert import_weights(path).config.network == "dncnn"

    def test_model_files_of_this_program_come_as_they_are(self, tmp_path, tiny_model):
        done = import_weights(tiny_model, "mine")
        assert done.path.read_bytes() == tiny_model.read_bytes()
        with pytest.raises(UsageError, match="says itself how it is run"):
            import_weights(tiny_model, "mine", single_pass=True, force=True)

    def test_the_network_computes_what_it_did(self, tmp_path, dncnn):
        path = tmp_path / "net.pt"
        torch.save(dncnn.state_dict(), path)
        ours = load_model(import_weights(path).path).network
        x, mask = torch.rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32, dtype=torch.bool)
        with torch.inference_mode():
            assert torch.allclose(ours(x, mask), dncnn(x), atol=1e-5)

    def test_the_same_file_gives_the_same_bytes(self, tmp_path, dncnn):
        path = tmp_path / "net.pt"
        torch.save(dncnn.state_dict(), path)
        first = import_weights(path).path.read_bytes()
        assert import_weights(path, force=True).path.read_bytes() == first

    def test_prefixes_are_those_of_the_published_files(self):
        assert LIGHTNING_PREFIX in PREFIXES

    def test_a_whole_training_state(self, tmp_path, dncnn):
        """With an optimiser and a callback, as Lightning saves by default."""
        copy = DnCNN()
        optimiser = torch.optim.Adam(copy.parameters(), 1e-3, amsgrad=True)
        copy(torch.rand(1, 3, 8, 8)).mean().backward()
        optimiser.step()
        content = lightning(dncnn.state_dict())
        content["optimizer_states"] = [optimiser.state_dict()]
        content["callbacks"] = {"best": {"score": torch.tensor(37.5, dtype=torch.float64)}}
        torch.save(content, tmp_path / "net.ckpt")
        assert import_weights(tmp_path / "net.ckpt").config.network == "dncnn"


class TestHowToRun:
    def test_as_the_paper_does_or_in_a_single_pass(self, tmp_path, dncnn, deamnet):
        for network, refine in ((dncnn, 0.0), (deamnet, 0.16)):
            path = tmp_path / "net.pt"
            torch.save(network.state_dict(), path)
            config = import_weights(path, force=True).config
            assert (config.fill, config.mask_channel) == ("zeros", False)
            assert config.inference == Inference(passes="multi", n_masks=2, stride=2, refine=refine)
        single = import_weights(path, "single", single_pass=True).config
        assert single.inference == Inference(passes="single")

    def test_a_network_trained_without_masks_gets_none(self, amsnet, tmp_path, dncnn, noisy_png):
        path = tmp_path / "net.pt"
        torch.save(dncnn.state_dict(), path)
        assert amsnet("weights", "import", path, "--single-pass").exit_code == 0
        out = tmp_path / "out.png"
        for option in (("--masks", 2), ("--pd-stride", 2), ("--repeats", 2), ("--refine", 0.16)):
            done = amsnet("denoise", noisy_png, "-o", out, "-w", "net", *option)
            assert done.exit_code == 2 and "cannot fill masked pixels" in done.stderr
            assert done.stderr.count("\n") == 1 and not out.exists()
        assert amsnet("denoise", noisy_png, "-o", out, "-w", "net", "--masks", 1).exit_code == 0
        masked = ("-o", tmp_path / "masked.png", "--masks", 2)
        assert amsnet("denoise", noisy_png, *masked).exit_code == 0, "the default has met them"

    def test_from_file_to_picture(self, amsnet, tmp_path, dncnn, noisy_png):
        path = tmp_path / "my [b] net.pth"
        torch.save(prefixed("module.", dncnn.state_dict()), path)
        done = amsnet("weights", "import", path)
        assert done.exit_code == 0, done.stderr
        assert done.stdout == f"{models_dir() / 'my [b] net.safetensors'}\n"
        assert "k = 2" in done.stderr and "stride 2" in done.stderr and "zeros" in done.stderr
        assert "-w 'my [b] net'" in done.stderr and "--single-pass" in done.stderr
        clean = tmp_path / "clean.png"
        assert amsnet("denoise", noisy_png, "-o", clean, "-w", "my [b] net").exit_code == 0
        assert read_photo(clean).pixels.shape == (160, 192, 3)
        assert "imported" in amsnet("weights", "list").stdout
        assert "dncnn" in amsnet("weights", "show", "my [b] net").stdout
        assert amsnet("weights", "verify", "my [b] net").stdout == "my [b] net: ok\n"


class TestPublished:
    """What the manifest knows is recognised: by digest, or by its exact name."""

    NAME = "deamnet-sidd-val_avg_psnr=37.80.ckpt"

    def test_the_authors_files_go_by_their_name(self, amsnet, tmp_path, deamnet):
        torch.save(lightning(deamnet.state_dict()), tmp_path / self.NAME)
        done = amsnet("weights", "import", tmp_path / self.NAME)
        assert done.exit_code == 0, done.stderr
        assert done.stdout == f"{weights_dir() / 'sidd-deamnet.safetensors'}\n"
        assert "sidd-deamnet" in done.stderr and "refinement 0.16" in done.stderr
        assert find_weights("deamnet-sidd") == find_weights("sidd-deamnet")
        assert "deamnet" in amsnet("weights", "verify").stdout
        shown = amsnet("weights", "show", "sidd-deamnet").stdout
        assert "trusted" in shown and str(tmp_path / self.NAME) in shown.replace("\n", "")

    def test_a_second_file_of_that_name_must_be_the_same(self, amsnet, tmp_path, deamnet):
        path = tmp_path / self.NAME
        torch.save(lightning(deamnet.state_dict()), path)
        assert amsnet("weights", "import", path).exit_code == 0
        assert amsnet("weights", "import", path).exit_code == 0
        before = find_weights("sidd-deamnet").read_bytes()
        amsnet("weights", "remove", "sidd-deamnet", "--yes")
        torch.save(lightning({k: v + 1 for k, v in deamnet.state_dict().items()}), path)
        refused = amsnet("weights", "import", path)
        assert refused.exit_code == 4 and "expected" in refused.stderr
        torch.save(lightning(deamnet.state_dict()), path)
        assert amsnet("weights", "import", path).exit_code == 0
        assert find_weights("sidd-deamnet").read_bytes() == before

    def test_another_network_under_that_name_is_refused(self, tmp_path, dncnn):
        torch.save(lightning(dncnn.state_dict()), tmp_path / self.NAME)
        with pytest.raises(WeightsError, match="sidd-deamnet is a deamnet, this is a dncnn"):
            import_weights(tmp_path / self.NAME)
        assert not list(weights_dir().glob("sidd-*"))
        assert not (models_dir().parent / "weights.lock.json").exists()

    def test_a_name_that_was_changed_can_be_given(self, tmp_path, deamnet):
        path = tmp_path / "download (1)"
        torch.save(lightning(deamnet.state_dict()), path)
        assert import_weights(path, "sidd-deamnet").entry.name == "sidd-deamnet"
        with pytest.raises(WeightsError, match="is a restormer, this is a deamnet"):
            import_weights(path, "sidd-restormer")
        with pytest.raises(WeightsError, match="git blob sha1 e1ced03a64"):
            import_weights(path, "deamnet-real")

    def test_a_pinned_file_is_known_by_its_digest(self, amsnet, tmp_path, publish, deamnet):
        path = tmp_path / "whatever.pth"
        torch.save(
            prefixed("module.", deamnet.state_dict()), path, _use_new_zipfile_serialization=False
        )
        file = {"name": "Real.pth", "size_about": 9_000_000,
                "git_blob_sha1": git_blob_sha1_of(path)}  # fmt: skip
        publish(entry(network="deamnet", fill="zeros", mask_channel=False, file=file))
        done = import_weights(path)
        assert done.entry.name == "far"
        assert done.config.inference == Inference(passes="single")
        assert amsnet("weights", "verify", "away").exit_code == 0
        with pytest.raises(UsageError, match="--single-pass"):
            import_weights(path, single_pass=True)
        with pytest.raises(WeightsError, match="is far, by its digest"):
            import_weights(path, "sidd-deamnet")

    def test_what_comes_with_the_program_needs_no_import(self):
        with pytest.raises(UsageError, match="comes with amsnet"):
            import_weights(find_weights("photo"))

    def test_git_names_contents_so(self, tmp_path):
        (tmp_path / "hello").write_bytes(b"hello\n")
        assert git_blob_sha1_of(tmp_path / "hello") == "ce013625030ba8dba906f756967f9e9ca394464a"


class TestRefused:
    """What is not exactly a known network is refused with what was expected and found."""

    def refuse(self, content: object, path: Path, says: str) -> None:
        torch.save(content, path)
        with pytest.raises(WeightsError, match=says):
            import_weights(path)
        assert not models_dir().exists() or not list(models_dir().iterdir())

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda t: t.pop("model.0.bias"), r"nearly dncnn \(.*1 missing, such as model.0.bias"),
            (lambda t: t.update(extra=torch.zeros(1)), "1 unknown, such as 'extra'"),
            (lambda t: t.update({"model.0.bias": torch.zeros(65)}), "expected 64 .*found 65"),
            (lambda t: t.update({"model.0.bias": torch.zeros(64, dtype=torch.int64)}), "int64"),
            (lambda t: t["model.0.bias"].fill_(float("nan")), "model.0.bias has values .* finite"),
            (lambda t: t["model.3.running_var"].fill_(float("inf")), "running_var has values"),
            (lambda t: t.clear(), "expected exactly the tensors of one of restormer"),
        ],
    )  # fmt: skip
    def test_nearly_known(self, tmp_path, dncnn, change, says):
        tensors = {key: tensor.clone() for key, tensor in dncnn.state_dict().items()}
        change(tensors)
        self.refuse(tensors, tmp_path / "net.pt", says)

    def test_other_networks(self, tmp_path):
        other = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).state_dict()
        self.refuse(other, tmp_path / "net.pt", "found 7, such as '0.bias'")

    @pytest.mark.parametrize(
        "content", [[torch.zeros(2)], torch.zeros(3), {"state_dict": 1}, {"a": 1}, None, "text"]
    )
    def test_other_contents(self, tmp_path, content):
        self.refuse(content, tmp_path / "net.pt", "refused")

    def test_half_precision_is_named(self, tmp_path, dncnn):
        tensors = {key: tensor.half() for key, tensor in dncnn.state_dict().items()}
        self.refuse(
            tensors, tmp_path / "net.pt", "expected 64x3x3x3 float32, found 64x3x3x3 float16"
        )

    @pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
    @pytest.mark.parametrize("archive", [True, False])
    def test_cut_short(self, tmp_path, dncnn, share, archive):
        path = tmp_path / "net.pt"
        torch.save(dncnn.state_dict(), path, _use_new_zipfile_serialization=archive)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        with pytest.raises(WeightsError):
            import_weights(path)

    def test_a_flipped_bit(self, tmp_path, dncnn):
        path = tmp_path / "net.pt"
        torch.save(dncnn.state_dict(), path)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="damaged archive"):
            import_weights(path)

    def test_any_damage_is_one_error(self, tmp_path, dncnn):
        """400 files with a few bytes changed: a model that is whole, or one clear error."""
        path = tmp_path / "net.pt"
        draw = np.random.default_rng(0)
        small = OrderedDict(a=torch.zeros(3), b=torch.ones(2, 2))
        for archive in (True, False):
            torch.save(small, path, _use_new_zipfile_serialization=archive)
            original = path.read_bytes()
            for _ in range(200):
                content = bytearray(original)
                for place in draw.integers(len(content), size=draw.integers(1, 6)):
                    content[place] = draw.integers(256)
                path.write_bytes(content)
                with pytest.raises(WeightsError):  # It is no known network in any case.
                    import_weights(path)

    def test_not_files(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.pt")
        (tmp_path / "folder.pt").mkdir()
        (tmp_path / "empty.pt").touch()
        (tmp_path / "link.pt").symlink_to("/etc/hostname")
        (tmp_path / "page.pt").write_text("<!DOCTYPE html><html>quota exceeded</html>")
        for name in ("pipe.pt", "folder.pt", "empty.pt", "link.pt", "page.pt", "missing.pt"):
            with pytest.raises(WeightsError):
                import_weights(tmp_path / name)

    def test_too_large(self, tmp_path):
        with (tmp_path / "large.pt").open("wb") as file:
            file.write(b"PK\x03\x04")
            file.truncate(2 << 30)
        with pytest.raises(WeightsError, match="more than 1024 MB"):
            import_weights(tmp_path / "large.pt")

    def test_an_older_torch_loads_no_checkpoints(self, tmp_path, dncnn, monkeypatch):
        torch.save(dncnn.state_dict(), tmp_path / "net.pt")
        monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
        with pytest.raises(WeightsError, match="install torch 2.10 or newer"):
            import_weights(tmp_path / "net.pt")

    @pytest.mark.parametrize("name", ["photo", "default", "../up", "a/b", ".hidden", "-x", "a\nb"])
    def test_names_that_are_none(self, tmp_path, dncnn, name):
        torch.save(dncnn.state_dict(), tmp_path / "net.pt")
        with pytest.raises(AmsnetError):
            import_weights(tmp_path / "net.pt", name)
        assert not models_dir().exists()

    def test_models_are_not_replaced_unless_told(self, tmp_path, dncnn):
        torch.save(dncnn.state_dict(), tmp_path / "net.pt")
        import_weights(tmp_path / "net.pt")
        with pytest.raises(OutputError, match="--force"):
            import_weights(tmp_path / "net.pt")
        assert import_weights(tmp_path / "net.pt", force=True)


class Evil:
    """Unpickled, calls `function` with `arguments`."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def archive(records: dict[str, bytes], **options) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", **options) as file:
        for name, data in records.items():
            file.writestr(name, data)
    return packed.getvalue()


def checkpoint(pickled: bytes, **more: bytes) -> bytes:
    notes = {"archive/version": b"3\n", "archive/byteorder": b"little"}
    return archive({"archive/data.pkl": pickled, **notes, **more})


def saved(content: object, **options) -> bytes:
    out = io.BytesIO()
    torch.save(content, out, **options)
    return out.getvalue()


def legacy(position: int, evil: bytes) -> bytes:
    """The older format, one of whose five pickles is replaced."""
    stream = io.BytesIO(saved({"a": torch.zeros(2)}, _use_new_zipfile_serialization=False))
    pickles = []
    for _ in range(5):
        start = stream.tell()
        for _ in pickletools.genops(stream):
            pass
        pickles.append(stream.getvalue()[start : stream.tell()])
    rest = stream.read()
    pickles[position] = evil
    return b"".join(pickles) + rest


def storage_reference(kind: bytes, count: bytes) -> bytes:
    """A pickle of a dictionary with one tensor whose storage has `count` numbers."""
    return (
        b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
        + kind + b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + count
        + b"tQK\x00K\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs."
    )  # fmt: skip


FLOATS = b"ctorch\nFloatStorage\n"


def nested_keys() -> bytes:
    """A dictionary whose key takes 2 ** 64 steps to hash."""
    doubled = b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(64))
    return b"\x80\x02})q\x00" + doubled + b"K\x01s."


class TestMalicious:
    """Files made to run something when they are read. None does, each is one clear error."""

    @pytest.fixture
    def marker(self, tmp_path) -> Path:
        return tmp_path / "ran"

    def attacks(self, marker: Path) -> dict[str, bytes]:
        touch = f"touch '{marker}'"
        write = f"open({str(marker)!r}, 'w').close()"
        command = Evil(os.system, touch)
        evil = pickle.dumps(command, 2)
        zeros = torch.zeros(2)
        good = saved({"a": zeros})
        bad = checkpoint(evil)
        code = (touch + "\n").encode()
        line = repr(touch).encode()
        attacks = {
            "a pickle, not a checkpoint": evil,
            "the newest protocol": pickle.dumps(command, 5),
            "os.system": bad,
            "os.system, protocol 4": checkpoint(pickle.dumps(command, 4)),
            "os.system, protocol 0": checkpoint(pickle.dumps(command, 0)),
            "open": saved(Evil(open, str(marker), "w")),
            "eval": saved(Evil(eval, write)),
            "exec": saved({"state_dict": {"a": zeros, "b": Evil(exec, write)}}),
            "amid tensors": saved({"state_dict": OrderedDict(a=zeros, b=command, c=zeros)}),
            "a list in loops": saved({"state_dict": {"a": zeros}, "loops": [[command]]}),
            "a key": saved({"state_dict": {"a": zeros}, ("x", 1): command}),
            "getattr": saved(Evil(getattr, 1, "real")),
            "torch.load of another file": saved(Evil(torch.load, "other.pt")),
            "numpy": saved({"a": np.zeros(2)}),
            "a whole module": saved(nn.Conv2d(1, 1, 1)),
            "a subclass of tensor": saved({"a": nn.Parameter(zeros)}),
            "INST": checkpoint(b"(S'" + touch.encode() + b"'\nios\nsystem\n."),
            "OBJ": checkpoint(b"(cos\nsystem\nS" + line + b"\no."),
            "STACK_GLOBAL": checkpoint(
                b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c%c" % len(touch) + touch.encode()
                + b"\x85R."
            ),
            "NEWOBJ": checkpoint(b"\x80\x02csubprocess\nPopen\nX\x01\x00\x00\x00a\x85\x81."),
            "extension code": checkpoint(b"\x80\x02\x82\x01)R."),
            "a dotted global": checkpoint(
                b"\x80\x02ctorch\nserialization.os.system\nS" + line + b"\n\x85R."
            ),
            "an allowed global, called otherwise": checkpoint(
                b"\x80\x02ccollections\nOrderedDict\nccollections\nOrderedDict\n\x85R."
            ),
            "an allowed global, its attributes set": checkpoint(
                b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsK\x01sb."
            ),
            "a storage class that is called": checkpoint(b"\x80\x02" + FLOATS + b"K\x05\x85R."),
            "a second pickle behind the first": checkpoint(pickle.dumps({}, 2) + evil),
            "persistent id of text": checkpoint(b"\x80\x02Pos.system\n."),
            "persistent id of a module": checkpoint(
                b"\x80\x02(X\x06\x00\x00\x00modulecos\nsystem\nX\x01\x00\x00\x00aX\x01\x00\x00\x00btQ."
            ),
            "persistent id of another global": checkpoint(
                storage_reference(b"cos\nsystem\n", b"K\x02"), **{"archive/data/0": bytes(8)}
            ),
            "persistent id with a path": checkpoint(
                storage_reference(FLOATS, b"K\x02").replace(
                    b"X\x01\x00\x00\x000", b"X\x0b\x00\x00\x00../../../up"
                )
            ),
            "a storage of a trillion": checkpoint(
                storage_reference(FLOATS, b"\x8a\x06\x00\x00\x00\x00\x00\x01"),
                **{"archive/data/0": bytes(8)},
            ),
            "a storage of minus one": checkpoint(
                storage_reference(FLOATS, b"J\xff\xff\xff\xff"), **{"archive/data/0": bytes(8)}
            ),
            "a view of a trillion numbers": checkpoint(
                storage_reference(FLOATS, b"K\x02").replace(
                    b"K\x02\x85K\x01\x85", b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85K\x00\x85"
                ),
                **{"archive/data/0": bytes(8)},
            ),
            "a storage that is shorter": checkpoint(
                storage_reference(FLOATS, b"K\x02"), **{"archive/data/0": bytes(4)}
            ),
            "a storage that is not there": checkpoint(storage_reference(FLOATS, b"K\x02")),
            "a key that takes for ever to hash": checkpoint(nested_keys()),
            "a memo that is not there": checkpoint(b"\x80\x02h\x07."),
            "an empty stack": checkpoint(b"\x80\x020000."),
            "no end": checkpoint(b"\x80\x02}"),
            "a record of code": checkpoint(pickle.dumps({}, 2), **{"archive/code/run.py": code}),
            "a record outside of the folder": checkpoint(pickle.dumps({}, 2), **{"../ran": code}),
            "a record with an absolute name": checkpoint(
                pickle.dumps({}, 2), **{str(marker): code}
            ),
            "a record with backslashes": checkpoint(pickle.dumps({}, 2), **{"..\\ran": code}),
            "two folders": checkpoint(pickle.dumps({}, 2), **{"other/data.pkl": evil}),
            "compressed": archive({"archive/data.pkl": bytes(50 << 20)}, compression=8),
            "TorchScript": archive(
                {"net/data.pkl": pickle.dumps({}, 2), "net/constants.pkl": evil,
                 "net/code/__torch__.py": code}
            ),
            "an archive within the archive": checkpoint(bad),
            "two archives, the good one last": bad + good,
            "two archives, the bad one last": good + bad,
            "a pickle before an archive": evil + good,
            "a huge pickle": checkpoint(
                b"\x80\x02X" + struct.pack("<I", 20 << 20) + bytes(20 << 20) + b"."
            ),
            "senseless escapes": checkpoint(b"\x80\x02S'\\ '\n."),
            "before 1.6, a tar": b"./\0" + bytes(509) + evil,
        }  # fmt: skip
        full = storage_reference(FLOATS, b"K\x50")  # one fits, two do not
        twice_as_much = full[:-1].replace(b"X\x01\x00\x00\x00a", b"(X\x01\x00\x00\x00a", 1)
        twice_as_much = twice_as_much[:-1] + full[3:-2].replace(b"\x000X", b"\x001X") + b"u."
        attacks["before 1.6, more storages than bytes"] = legacy(3, twice_as_much)
        for position in range(5):
            attacks[f"before 1.6, pickle {position}"] = legacy(position, evil)
        with pytest.warns(UserWarning, match="Duplicate"):
            twice = io.BytesIO(good)
            with zipfile.ZipFile(twice, "a") as file:
                file.writestr("archive/data.pkl", evil)
        attacks["two records of one name"] = twice.getvalue()
        link = io.BytesIO()
        with zipfile.ZipFile(link, "w") as file:
            file.writestr("archive/data.pkl", storage_reference(FLOATS, b"K\x02"))
            info = zipfile.ZipInfo("archive/data/0")
            info.external_attr = 0o120777 << 16
            file.writestr(info, "/etc/passwd")
        attacks["a record that is a link"] = link.getvalue()
        return attacks

    def test_nothing_runs_and_each_is_refused(self, tmp_path, amsnet, marker, monkeypatch):
        monkeypatch.chdir(tmp_path)
        attacks = self.attacks(marker)
        assert len(attacks) >= 61
        for name, content in attacks.items():  # each within the test's time, however it is nested
            path = tmp_path / "net.ckpt"
            path.write_bytes(content)
            result = amsnet("weights", "import", path)
            assert result.exit_code == 4, (name, result.stderr)
            assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, name
            assert len(result.stderr) < 600, name
            assert result.stdout == "" and not marker.exists(), name
        assert sorted(p.name for p in tmp_path.iterdir()) == ["net.ckpt"]

    def test_the_attacks_would_have_worked(self, marker):
        """Otherwise the test above proves nothing."""
        attacks = self.attacks(marker)
        for name in ("os.system", "eval", "exec", "amid tensors", "before 1.6, pickle 3"):
            with contextlib.suppress(AssertionError):  # about the storages, after it has run
                torch.load(io.BytesIO(attacks[name]), weights_only=False)
            assert marker.exists(), name
            marker.unlink()

    def test_torch_never_sees_what_was_not_checked(self, tmp_path, marker):
        """Two archives in one file: what is loaded is what was looked at."""
        (tmp_path / "net.pt").write_bytes(
            checkpoint(pickle.dumps(Evil(os.system, f"touch '{marker}'"), 2)) + saved({"a": 1})
        )
        content = read_checkpoint(tmp_path / "net.pt")
        assert torch.load(content, weights_only=True) == {"a": 1}
        assert not marker.exists()

    @pytest.mark.parametrize(
        "change",
        [
            lambda b: struct.pack("<Q", 1 << 62) + b[8:],
            lambda b: struct.pack("<Q", len(b) + 1) + b[8:],
            lambda b: b.replace(b"[0,8]", b"[0,9]"),
            lambda b: b.replace(b"[0,8]", b"[8,8]"),
            lambda b: b.replace(b'"shape":[64]', b'"shape":[63]'),
            lambda b: b.replace(b'"F32"', b'"F16"'),
            lambda b: b[:-1],
            lambda b: b + b"x",
            lambda b: b[:8] + b"{" * 100 + b[108:],
        ],
    )
    def test_safetensors_that_lie(self, tmp_path, dncnn, change):
        path = tmp_path / "net.safetensors"
        save_file(dncnn.state_dict(), path)
        changed = change(path.read_bytes())
        assert changed != path.read_bytes()
        path.write_bytes(changed)
        with pytest.raises(WeightsError):
            import_weights(path)

    def test_the_shipped_files_hold_no_pickle(self):
        for published in load_manifest().entries.values():
            if published.bundled:
                assert load_file(find_weights(published.name))
