"""What `amsnet weights` says about weights and models."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from amsnet_cli.weights.header import camera_and_speeds, cameras_of
from amsnet_cli.weights.inventory import InventoryItem
from amsnet_cli.weights.manifest import ManifestEntry
from amsnet_cli.weights.records import Origin, Record, first_use, lock_path


def as_json(item: InventoryItem) -> dict[str, Any]:
    """Fields of an item for `--json`."""
    entry = item.entry
    return {
        "name": item.name,
        "aliases": list(entry.aliases) if entry else [],
        "state": item.state,
        "bytes": item.size,
        "bytes_exact": size_is_exact(item),
        "licence": entry.licence if entry else None,
        "title": title(item),
        "network": entry.network if entry else network_name(item.header) or None,
        "supervised": entry.supervised if entry else None,
        "cameras": cameras_of(item.header),
        "digest_published": entry.file.pinned if entry else None,
        "path": str(item.path) if item.path else None,
    }


def details(
    item: InventoryItem, record: Record | None, trusted: Origin | None
) -> Iterator[tuple[str, object]]:
    """Lines of `amsnet weights show`: a label and a value, which may be empty.

    Args:
        item: what to show.
        record: of its file.
        trusted: what the lock file has of it.
    """
    names = (item.name, *(item.entry.aliases if item.entry else ()))
    yield "name", ", also ".join(names)
    yield "title", title(item)
    yield "state", item.state
    if item.entry:
        yield from _entry_details(item, item.entry)
    if header := item.header:
        yield "network", network_name(header)
        yield "runs as", how_to_run(header.get("inference", {}), header.get("fill", ""))
        yield "fitted to", _cameras(item)
        for key, value in header.get("provenance", {}).items():
            yield key.replace("_", " "), value
    if trusted:
        yield "trusted", f"sha256 {trusted.sha256}, since {trusted.date}, in {lock_path()}"
    if record:
        yield "came from", f"{record.origin.source}, on {record.origin.date}"
    yield "path", item.path
    yield "use it with" if item.path else "get it with", next_command(item)


def _entry_details(item: InventoryItem, entry: ManifestEntry) -> Iterator[tuple[str, object]]:
    yield "purpose", entry.purpose
    yield "network", entry.network
    yield "runs as", how_to_run(entry.inference, entry.fill)
    about = "" if size_is_exact(item) else "about "
    yield "file", f"{entry.file.name}, {about}{item.size:,} bytes"
    yield "sha256", entry.file.sha256
    yield "git blob sha1", entry.file.git_blob_sha1
    if not entry.file.pinned:
        yield "checksum", "none published; the first file you trust is recorded"
    for source in entry.sources:
        yield "source", source
    yield "licence", entry.licence
    yield "supervised", "yes, by clean images" if entry.supervised else "no"
    yield "trained on", entry.trained_on
    for score in entry.scores:
        yield "score", _score(score)
    yield "limits", entry.limits


def title(item: InventoryItem) -> str:
    """One line about an item."""
    if item.entry:
        return item.entry.title
    if item.state == "unreadable":
        return "damaged or of another version; see: amsnet weights verify"
    provenance = item.header.get("provenance", {})
    if "imported_from" in provenance:
        return f"imported from {provenance['imported_from']}"
    made = f"fitted on {provenance['fitted_on']}" if "fitted_on" in provenance else "a model file"
    cameras = _cameras(item)
    return f"{made}, to {cameras}" if cameras else made


def size_is_exact(item: InventoryItem) -> bool:
    """Whether an item's size is known exactly."""
    return item.path is not None or item.entry is None or item.entry.file.size is not None


def network_name(header: Mapping[str, Any]) -> str:
    """Name of the network in a model file's header."""
    network = header.get("network", "")
    if isinstance(network, str):
        return network
    if header.get("mosaic"):
        return "mosaic"
    return "conditioned" if isinstance(network, dict) and "estimator" in network else "compact"


def how_to_run(inference: Mapping[str, Any], fill: str) -> str:
    """How a model is run, from its `Inference` as a dictionary."""
    if inference.get("passes") != "multi":
        if (copies := inference.get("ensemble", 1)) > 1:
            return f"average of {copies} single passes over turned copies, nothing masked"
        return "a single pass, nothing masked"
    masks, stride = inference.get("n_masks", 2), inference.get("stride", 2)
    text = f"{masks} complementary masks (k = {masks}), PD stride {stride}, masked pixels: {fill}"
    if (repeats := inference.get("repeats", 1)) > 1:
        text += f", average of {repeats} sets of masks"
    if refine := inference.get("refine"):
        text += f", random replacement refinement {refine:g}"
    return text


def use_command(name: str) -> str:
    """The command that denoises with these weights."""
    return f"amsnet denoise PHOTO -o CLEAN -w {shlex.quote(name)}"


def next_command(item: InventoryItem) -> str:
    """The command to try next: denoise with an item, or pull it first."""
    quoted = shlex.quote(item.name)
    if item.path:
        return use_command(item.name)
    if item.entry and not item.entry.file.pinned and not first_use(item.name):
        return (
            f"amsnet weights pull {quoted} --trust-first-use; or download the file with a browser "
            "and run: amsnet weights import FILE"
        )
    return f"amsnet weights pull {quoted}"


def _cameras(item: InventoryItem) -> str:
    return "; ".join(camera_and_speeds(*camera) for camera in cameras_of(item.header).items())


def _score(score: Mapping[str, Any]) -> str:
    images = f" ({score['pictures']} images)" if "pictures" in score else ""
    before = f"noisy {score['noisy_psnr']:.2f} dB, " if "noisy_psnr" in score else ""
    ssim = f" / {score['ssim']:.3f}" if "ssim" in score else ""
    return f"{score['set']}{images}: {before}{score['psnr']:.2f} dB{ssim}; {score['protocol']}"
