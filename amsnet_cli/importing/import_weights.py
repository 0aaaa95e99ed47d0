"""Make a model of what others have published.

Checkpoints are recognised by their structure alone: keys, shapes and types must be exactly those
of a network that this program has. Nothing in a foreign file is ever run (see
`amsnet_cli.weights.checkpoint`). What was converted is read back and compared.
"""

from __future__ import annotations

import functools
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.torch_version import TorchVersion

from amsnet_cli.core.networks import PaperNetwork, make_network
from amsnet_cli.errors import OutputError, UsageError, WeightsError
from amsnet_cli.model import Inference, ModelConfig, build_network, load_model, save_model
from amsnet_cli.weights.checkpoint import read_checkpoint
from amsnet_cli.weights.manifest import Entry, Manifest, load_manifest, sha256_of
from amsnet_cli.weights.pull import pull
from amsnet_cli.weights.records import Record, arrival, write_record
from amsnet_cli.weights.store import model_path

SAFE_TORCH = "2.10"
"""Before, `weights_only` could be tricked into running code (CVE-2025-32434, CVE-2026-24747)."""
PREFIXES = ("module.", "net.dn.branches.0.")
"""Of DataParallel, and of the checkpoints that the authors of AMSNet published."""
REFINED: tuple[PaperNetwork, ...] = ("deamnet", "nafnet")
"""Networks that the authors run with random replacement refinement."""


Structure = dict[str, tuple[tuple[int, ...], torch.dtype]]
"""Shape and type of each tensor by its key."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A model that was imported.

    Attributes:
        name: what to give to `-w`.
        path: its file.
        config: what it is and how it is run.
        entry: the published weights that it is, or None.
    """

    name: str
    path: Path
    config: ModelConfig
    entry: Entry | None


def import_weights(
    source: Path,
    name: str | None = None,
    *,
    bare: bool = False,
    force: bool = False,
    notice: Callable[[str], None] = lambda line: None,
) -> Imported:
    """Make a model of a checkpoint or model file, and put it where its name finds it.

    A file that the manifest knows, by its digest or, where none is published, by its exact name,
    becomes that entry, as if it had been pulled; any other becomes a model among the fitted ones.

    Args:
        source: a checkpoint of PyTorch or Lightning, a safetensors file of tensors, or a model
            file of this program.
        name: what to call it; its own name, without the suffix, if None.
        bare: run it in a single pass, as networks are that were trained on clean pictures.
        force: replace a model of that name.
        notice: called with lines for the user.

    Raises:
        WeightsError: `source` is no file, is not exactly a known network, would run something,
            or is not what the manifest or the lock file says of `name`.
        UsageError: the name is not one, or is taken; `bare` where the file or the manifest says
            how it is run.
        OutputError: a model of that name is there already, or the store cannot be written.
    """
    if not source.is_file():
        what = "not a regular file" if source.exists() else "no such file"
        raise WeightsError(f"{source}: {what}", "name a checkpoint")
    if not os.access(source, os.R_OK):
        raise WeightsError(f"{source}: cannot be read", "check its permissions")
    entry = _known(load_manifest(), source, name)
    if entry is None:
        return _import_unknown(source, name or source.stem, bare=bare, force=force)
    if bare:
        raise UsageError(f"{entry.name} is run as the manifest says", "leave out --bare")
    if entry.bundled:
        raise UsageError(f"{source} is {entry.name}, which comes with amsnet", "it needs no import")
    path = pull(
        entry, convert=convert, from_file=source, trust_first_use=True, force=True, notice=notice
    )
    return Imported(name=entry.name, path=path, config=load_model(path).config, entry=entry)


def convert(source: Path, output: Path, entry: Entry) -> None:
    """Write the model of a manifest's entry, given its published file.

    Args:
        source: the published file.
        output: where to write; a file there is replaced.
        entry: says which network it must be, and how to run it.

    Raises:
        WeightsError: `source` is not exactly the network that the entry says.
        OutputError: `output` cannot be written.
    """
    _write(source, output, entry.file.name, entry=entry)


def _known(manifest: Manifest, source: Path, name: str | None) -> Entry | None:
    """Find the entry that a file is, and make sure that it is the one asked for."""
    asked = manifest.entry(name) if name is not None and name in manifest else None
    found = next(
        (e for e in manifest.entries.values() if e.file.pinned and not e.file.difference(source)),
        None,
    )
    if asked is None:
        by_name = (
            e for e in manifest.entries.values() if not e.file.pinned and e.file.name == source.name
        )
        return found or (next(by_name, None) if name is None else None)
    if found not in (None, asked):
        raise WeightsError(f"{source} is {found.name}, by its digest", f"it is not {asked.name}")
    if asked.file.pinned and found is None:
        raise WeightsError(
            f"{source} is not {asked.name}: {asked.file.difference(source)}",
            "download it again, or give it another --name",
        )
    return asked


def _import_unknown(source: Path, name: str, *, bare: bool, force: bool) -> Imported:
    target = model_path(name)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        if target.exists() and not force:
            raise OutputError(
                f"{target}: exists already", "replace it with --force, or give a --name"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            config = _write(source, part, source.name, bare=bare)
            came = arrival(source, name=source.name, source=str(source.absolute()))
            write_record(target, Record(came=came, sha256=sha256_of(part)))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{error.filename or target}: {error.strerror}",
            "make room, or set AMSNET_HOME elsewhere",
        ) from error
    return Imported(name=name, path=target, config=config, entry=None)


def _write(
    source: Path, output: Path, file_name: str, *, entry: Entry | None = None, bare: bool = False
) -> ModelConfig:
    """Recognise `source`, write it as a model to `output`, read that back and compare."""
    tensors, header = _read(source)
    if bad := [key for key, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise WeightsError(
            f"{source}: refused: {bad[0]} has values that are not finite", "download it again"
        )
    if header is not None:
        if bare:
            raise UsageError(f"{source} says itself how it is run", "leave out --bare")
        config = load_model(source).config
        if entry:
            _expect(entry, source, _label(config))
        shutil.copyfile(source, output)
    else:
        network = _recognise(source, tensors)
        if entry:
            _expect(entry, source, network)
        config = ModelConfig(
            network=network,
            fill="zeros",
            mask_channel=False,
            inference=_inference(network, entry, bare=bare),
            provenance={"imported_from": file_name, "sha256": sha256_of(source)},
        )
        tensors = _stripped(tensors)
        built = build_network(config)
        built.network.load_state_dict(tensors)  # type: ignore[attr-defined]
        save_model(output, built, config)
    model = load_model(output)
    again = model.network.state_dict()
    if header is None:
        again = {key.removeprefix("network."): tensor for key, tensor in again.items()}
    if model.config != config or not _equal(again, tensors):
        raise WeightsError(f"{output}: reads back differently than it was written", "try again")
    return config


def _read(source: Path) -> tuple[dict[str, Tensor], str | None]:
    """Read the tensors of a file; and the header if it is a model of this program."""
    with source.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{":
        try:
            with safe_open(source, framework="pt") as opened:
                header = (opened.metadata() or {}).get("amsnet")
                return {key: opened.get_tensor(key) for key in opened.keys()}, header  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise WeightsError(
                f"{source}: refused: not a sound safetensors file ({error})", "download it again"
            ) from error
    checked = read_checkpoint(source)
    if TorchVersion(torch.__version__) < TorchVersion(SAFE_TORCH):
        raise WeightsError(
            f"{source}: torch {torch.__version__} does not load checkpoints safely",
            "install torch 2.10 or newer",
        )
    try:
        content = torch.load(checked, map_location="cpu", weights_only=True)
    except Exception as error:  # A hostile file can make torch raise anything.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{source}: refused: torch cannot load it ({reason})", "download it again"
        ) from error
    tensors = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise WeightsError(
            f"{source}: refused: expected a dictionary of tensors, or one under state_dict",
            "save the network's state_dict() alone",
        )
    return {str(key): tensor for key, tensor in tensors.items()}, None


def _stripped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take off the known prefixes that all keys have."""
    keys = dict(zip(tensors, tensors, strict=True))
    while prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in keys)), None):
        if not keys:
            break
        keys = {key.removeprefix(prefix): whole for key, whole in keys.items()}
    return {key: tensors[whole] for key, whole in keys.items()}


def _structure(tensors: Mapping[str, Tensor]) -> Structure:
    return {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in tensors.items()}


@functools.cache
def _known_structures() -> dict[PaperNetwork, Structure]:
    known: dict[PaperNetwork, Structure] = {}
    with torch.device("meta"):
        for name in get_args(PaperNetwork):
            known[name] = _structure(make_network(name).state_dict())  # type: ignore[attr-defined]
    return known


def _recognise(source: Path, tensors: dict[str, Tensor]) -> PaperNetwork:
    """Find the network that has exactly these tensors."""
    found, known = _structure(_stripped(tensors)), _known_structures()
    if matching := [name for name, structure in known.items() if structure == found]:
        return matching[0]
    nearest = max(known, key=lambda name: len(known[name].keys() & found.keys()))
    expected = known[nearest]
    missing = [key for key in expected if key not in found]
    extra = [key for key in found if key not in expected]
    other = [key for key in expected if key in found and expected[key] != found[key]]
    if len(missing) > len(expected) / 2:
        networks = ", ".join(f"{name} ({len(keys)} tensors)" for name, keys in known.items())
        example = f", such as {min(found)!r}" if found else ""
        raise WeightsError(
            f"{source}: refused: expected exactly the tensors of one of {networks}, found "
            f"{len(found)}{example}",
            "this program cannot run it",
        )
    details = [f"{len(missing)} missing, such as {missing[0]}"] if missing else []
    details += [f"{len(extra)} unknown, such as {extra[0]!r}"] if extra else []
    details += [
        f"{len(other)} of another shape or type, such as {key}: expected {_text(expected[key])}, "
        f"found {_text(found[key])}"
        for key in other[:1]
    ]
    raise WeightsError(
        f"{source}: refused: nearly {nearest} ({len(expected)} tensors), but {'; '.join(details)}",
        "this program cannot run it",
    )


def _text(form: tuple[tuple[int, ...], torch.dtype]) -> str:
    shape, dtype = form
    return f"{'x'.join(map(str, shape)) or 'a number'} {str(dtype).removeprefix('torch.')}"


def _label(config: ModelConfig) -> str:
    return config.network if isinstance(config.network, str) else "compact"


def _expect(entry: Entry, source: Path, network: str) -> None:
    if network != entry.network:
        raise WeightsError(
            f"{source}: refused: {entry.name} is a {entry.network}, this is a {network}",
            "download it again",
        )


def _inference(network: PaperNetwork, entry: Entry | None, *, bare: bool) -> Inference:
    if entry:
        fields: dict[str, Any] = entry.inference
        return Inference(**fields)
    if bare:
        return Inference(passes="single")
    return Inference(
        passes="multi", n_masks=2, stride=2, refine=0.16 if network in REFINED else 0.0
    )


def _equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key].to(a[key].dtype)) for key in a)
