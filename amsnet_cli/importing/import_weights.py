"""Turn a published checkpoint into a model file, read it back and compare."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amsnet_cli.core.network_names import PaperNetwork
from amsnet_cli.errors import OutputError, UsageError, WeightsError
from amsnet_cli.importing.structure import recognise, strip_prefixes
from amsnet_cli.importing.tensors import is_safetensors, load_checkpoint, read_safetensors
from amsnet_cli.model import Inference, ModelConfig, build_network, load_model, save_model
from amsnet_cli.weights.manifest import Manifest, ManifestEntry, load_manifest, sha256_of
from amsnet_cli.weights.pull import pull
from amsnet_cli.weights.records import Origin, Record, write_record
from amsnet_cli.weights.store import model_path

REFINEMENT: dict[PaperNetwork, float] = {"deamnet": 0.16, "nafnet": 0.16}
"""Fraction of random replacement refinement (R3) in the authors' configurations; 0 for others."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """An imported model.

    Attributes:
        name: the name for `-w`.
        path: its file.
        config: its network and how to run it.
        entry: its entry in the manifest, or None.
    """

    name: str
    path: Path
    config: ModelConfig
    entry: ManifestEntry | None


def import_weights(
    source: Path,
    name: str | None = None,
    *,
    single_pass: bool = False,
    force: bool = False,
    notice: Callable[[str], None] = lambda line: None,
) -> Imported:
    """Convert a checkpoint to a model and store it under a name.

    A file in the manifest is stored as that entry, as if it had been pulled. It is recognised by
    its digest, or by its exact name if no digest is published. Any other file is stored with the
    fitted models.

    Args:
        source: a checkpoint of PyTorch or Lightning, a safetensors file of tensors, or a model
            file of this program.
        name: of the model; the file's stem if None.
        single_pass: run the model in a single pass; for networks that were trained on clean images.
        force: replace an existing model of that name.
        notice: called with lines for the user.

    Raises:
        WeightsError: `source` is not a file, is not exactly a known network, would run code, or
            does not match the manifest's or the lock file's digest of `name`.
        UsageError: `name` is invalid or taken; or `single_pass` is set for a model file or an entry
            of the manifest, which have settings of their own.
        OutputError: a model of that name exists, or the store cannot be written.
    """
    if not source.is_file():
        what = "not a regular file" if source.exists() else "no such file"
        raise WeightsError(f"{source}: {what}", "name a checkpoint")
    if not os.access(source, os.R_OK):
        raise WeightsError(f"{source}: cannot be read", "check its permissions")
    entry = _find_entry(load_manifest(), source, name)
    if entry is None:
        return _import_unlisted(source, name or source.stem, single_pass=single_pass, force=force)
    if single_pass:
        raise UsageError(f"the manifest says how {entry.name} is run", "leave out --single-pass")
    if entry.bundled:
        raise UsageError(f"{source} is {entry.name}, which comes with amsnet", "it needs no import")
    path = pull(
        entry, convert=convert, from_file=source, trust_first_use=True, force=True, notice=notice
    )
    return Imported(name=entry.name, path=path, config=load_model(path).config, entry=entry)


def convert(source: Path, output: Path, entry: ManifestEntry) -> None:
    """Convert the published file of a manifest entry to a model file.

    Args:
        source: the published file.
        output: the model file; an existing file is replaced.
        entry: gives the expected network, and how to run it.

    Raises:
        WeightsError: `source` is not exactly the network of the entry.
        OutputError: `output` cannot be written.
    """
    _write_model(source, output, entry.file.name, entry=entry)


def _find_entry(manifest: Manifest, source: Path, name: str | None) -> ManifestEntry | None:
    """Find a file in the manifest; refuse it if `name` is another entry."""
    named = manifest.entry(name) if name is not None and name in manifest else None
    entries = manifest.entries.values()
    found = next((e for e in entries if e.file.pinned and not e.file.difference(source)), None)
    if named is None:
        by_name = (e for e in entries if not e.file.pinned and e.file.name == source.name)
        return found or (next(by_name, None) if name is None else None)
    if found not in (None, named):
        raise WeightsError(f"{source} is {found.name}, by its digest", f"it is not {named.name}")
    if named.file.pinned and found is None:
        raise WeightsError(
            f"{source} is not {named.name}: {named.file.difference(source)}",
            "download it again, or give it another --name",
        )
    return named


def _import_unlisted(source: Path, name: str, *, single_pass: bool, force: bool) -> Imported:
    target = model_path(name)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        if target.exists() and not force:
            raise OutputError(
                f"{target}: exists already", "replace it with --force, or give another --name"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            config = _write_model(source, part, source.name, single_pass=single_pass)
            origin = Origin.of(source, name=source.name, source=str(source.absolute()))
            write_record(target, Record(origin=origin, sha256=sha256_of(part)))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{error.filename or target}: {error.strerror}",
            "make room, or set AMSNET_HOME to another folder",
        ) from error
    return Imported(name=name, path=target, config=config, entry=None)


def _write_model(
    source: Path,
    output: Path,
    file_name: str,
    *,
    entry: ManifestEntry | None = None,
    single_pass: bool = False,
) -> ModelConfig:
    """Recognise a file, write it as a model, read that again and compare every number."""
    if is_safetensors(source):
        tensors, is_model = read_safetensors(source)
    else:
        tensors, is_model = load_checkpoint(source), False
    if is_model:
        if single_pass:
            raise UsageError(f"{source} says itself how it is run", "leave out --single-pass")
        config = load_model(source).config
        _check_values(source, tensors)
        _check_network(entry, source, _network_name(config))
        shutil.copyfile(source, output)
    else:
        tensors = strip_prefixes(tensors)
        network = recognise(source, tensors)
        _check_values(source, tensors)
        _check_network(entry, source, network)
        config = ModelConfig(
            network=network,
            fill="zeros",
            mask_channel=False,
            inference=_inference(network, entry, single_pass=single_pass),
            provenance={"imported_from": file_name, "sha256": sha256_of(source)},
        )
        built = build_network(config)
        built.network.load_state_dict(tensors)  # type: ignore[attr-defined]
        save_model(output, built, config)
        tensors = {f"network.{key}": tensor for key, tensor in tensors.items()}
    model = load_model(output)
    if model.config != config or not _equal(model.network.state_dict(), tensors):
        raise WeightsError(f"{output}: verification after writing failed", "try again")
    return config


def _check_values(source: Path, tensors: Mapping[str, Tensor]) -> None:
    # Only after the structure is known: a view can claim any number of values.
    if bad := [key for key, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise WeightsError(
            f"{source}: refused: {bad[0]} has values that are not finite", "download it again"
        )


def _network_name(config: ModelConfig) -> str:
    return config.network if isinstance(config.network, str) else "compact"


def _check_network(entry: ManifestEntry | None, source: Path, network: str) -> None:
    if entry and network != entry.network:
        raise WeightsError(
            f"{source}: refused: {entry.name} is a {entry.network}, this is a {network}",
            "download it again",
        )


def _inference(
    network: PaperNetwork, entry: ManifestEntry | None, *, single_pass: bool
) -> Inference:
    """Settings for a checkpoint: from its entry, a single pass, or the paper's."""
    if entry:
        fields: dict[str, Any] = entry.inference
        return Inference(**fields)
    if single_pass:
        return Inference(passes="single")
    return Inference(passes="multi", n_masks=2, stride=2, refine=REFINEMENT.get(network, 0.0))


def _equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key].to(a[key].dtype)) for key in a)
