"""Weights that tests publish: an entry of a manifest, the file behind it, and what was pulled."""

from __future__ import annotations

import hashlib
import random

from amsnet_cli.weights.store import weights_dir

CONTENT = random.Random(0).randbytes(1 << 20)
"""Of the file of `entry`."""


def entry(*sources: str, **changes: object) -> dict[str, object]:
    return {
        "name": "far", "aliases": ["away"], "title": "from far away", "purpose": "tests",
        "network": "compact", "fill": "mean", "mask_channel": True,
        "inference": {"passes": "single"},
        "file": {"name": "far.safetensors", "size": len(CONTENT),
                 "sha256": hashlib.sha256(CONTENT).hexdigest()},
        "bundled": False, "sources": list(sources), "licence": "CC0-1.0", "supervised": False,
        "trained_on": "nothing", "scores": [], "limits": "none", **changes,
    }  # fmt: skip


def store() -> list[str]:
    """What is in the store, but lock files."""
    if not weights_dir().exists():
        return []
    return sorted(p.name for p in weights_dir().iterdir() if p.suffix != ".lock")
