"""The settings that photos were denoised with, as a part of a page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from amsnet_cli.inference.denoise import DenoiseOptions
from amsnet_cli.report.html import escape, settings_table


def settings_section(weights: str, options: DenoiseOptions) -> str:
    """Return HTML: the weights, the strength, what differs from the defaults, and all as JSON.

    Args:
        weights: their name.
        options: of all photos; the numbers of the post-processing are among them.
    """
    settings, defaults = map(_plain, (options, DenoiseOptions()))
    strength = "auto" if options.strength is None else f"{options.strength:g}"
    shown = {
        "weights": weights, "strength": strength,
        **dict(_changes(settings, defaults)),
    }  # fmt: skip
    whole = json.dumps({"weights": weights, **settings}, indent=1)
    return f"""<h2>Settings</h2>
<p>The weights, the strength, and what differs from the defaults. Mosaics of RAW files have no
post-processing; for them, strength auto is 1.</p>
{settings_table(list(shown.items()))}
<details><summary>All settings, with the numbers of the post-processing</summary>
<pre>{escape(whole)}</pre></details>"""


def _plain(options: DenoiseOptions) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(options)))
    return settings


def _changes(
    settings: dict[str, Any], defaults: dict[str, Any], within: str = ""
) -> Iterator[tuple[str, str]]:
    """Settings other than the defaults, but for the strength, with names like `texture.window`."""
    for name, value in settings.items():
        path, default = f"{within}{name}", defaults[name]
        if isinstance(value, dict):
            yield from _changes(value, default, f"{path}.")
        elif value != default and path != "strength":
            yield path, json.dumps(value)
