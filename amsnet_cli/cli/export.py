"""`amsnet export`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from amsnet_cli.cli import options
from amsnet_cli.cli.console import imports_whole, print_result, say
from amsnet_cli.errors import OutputError, UsageError

if TYPE_CHECKING:
    from amsnet_cli.model import Model


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Name of weights or of a fitted model, or a model file."
        ),
    ],
    to: Annotated[
        Literal["darktable", "onnx"],
        typer.Option(
            "--to",
            help="darktable: a package for darktable 5.6 or newer; onnx: a plain graph that takes "
            "any size, with its metadata.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="The file; its stem is the model's id in darktable. (default: amsnet-MODEL"
            ".dtmodel or .onnx in this folder)",
        ),
    ] = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Export a model for other programs.

    Only the network goes out, so only weights with a single pass for developed photos; what stays
    behind is said at the end. Needs the extra "export".
    """
    with imports_whole():
        from amsnet_cli.exporting.darktable import default_name
        from amsnet_cli.weights.header import is_for_mosaics, read_header
        from amsnet_cli.weights.store import find_weights

    path = find_weights(model)
    name = Path(default_name(model))
    output = output or (name if to == "darktable" else name.with_suffix(".onnx"))
    if is_for_mosaics(read_header(path)):
        raise UsageError(
            f"{model} is for mosaics of RAW files and is told the noise of each, for which "
            "darktable and ONNX have no input",
            "export weights for developed photos, or denoise RAW files with amsnet denoise",
        )
    check_export(output, to, force=force)

    with imports_whole():
        from amsnet_cli.model import load_model

    loaded = load_model(path, path.stem)
    write_export(output, to, loaded)
    print_result(output)
    if not quiet:
        say_left_out(output, to, loaded)


def check_export(output: Path, to: Literal["darktable", "onnx"], *, force: bool) -> None:
    """Check before any work that a file can be exported.

    Raises:
        OutputError: it cannot be written, or exists and `force` is not set.
        UsageError: its name does not suit, or a package is missing.
    """
    from amsnet_cli.exporting.darktable import check_id
    from amsnet_cli.exporting.graph import import_onnx

    if to == "darktable":
        check_id(output)
    elif output.suffix != ".onnx":
        raise UsageError(f"{output}: graphs are .onnx files", "add .onnx")
    if output.exists() and not force:
        raise OutputError(f"{output}: exists already", "replace it with --force, or choose with -o")
    folder = output.parent
    if output.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{output}: not a file in a folder that can be written", "choose with -o")
    for package in ("onnx", "onnxruntime"):
        import_onnx(package)


def plan_export(
    model: Path,
    to: Literal["darktable", "onnx"] | None,
    mosaics: bool,
    by_masks: bool,
    *,
    force: bool,
) -> Path | None:
    """Return where the export of a fit goes, beside its model; None if none was asked for.

    Raises:
        UsageError: the fit gives no model that can be exported.
        OutputError: see `check_export`.
    """
    from amsnet_cli.exporting.darktable import default_name

    if to is None:
        return None
    if mosaics:
        raise UsageError(
            "models for mosaics of RAW files cannot be exported", "fit with --raw developed"
        )
    if by_masks:
        raise UsageError(
            "a fit by masking gives no single pass, and only that can be exported",
            "leave out --from-scratch, --smooth and --preset",
        )
    output = model.with_name(default_name(model.stem))
    if to == "onnx":
        output = output.with_suffix(".onnx")
    output.parent.mkdir(parents=True, exist_ok=True)
    check_export(output, to, force=force)
    return output


def export_fitted(model: Path | None, output: Path | None, *, quiet: bool) -> None:
    """Export the model of a fit, if there is one, to where `plan_export` says, if anywhere."""
    if model is None or output is None:
        return
    from amsnet_cli.model import load_model

    to: Literal["darktable", "onnx"] = "onnx" if output.suffix == ".onnx" else "darktable"
    loaded = load_model(model)
    write_export(output, to, loaded)
    if not quiet:
        say(f"exported: {output}")
        say_left_out(output, to, loaded)


def write_export(output: Path, to: Literal["darktable", "onnx"], model: Model) -> None:
    """Write a model's file, whole or not at all; raises as `export_graph` does."""
    from amsnet_cli import __version__
    from amsnet_cli.atomic import write_output
    from amsnet_cli.exporting.darktable import package
    from amsnet_cli.exporting.graph import export_graph, graph_facts

    about = _about(model)
    if to == "darktable":
        content = package(model, output.stem, about)
    else:
        about["source"] = f"amsnet {__version__}, model {model.name}"
        content = export_graph(model, facts=graph_facts(model, about)).SerializeToString()
    write_output(output, content)


def say_left_out(output: Path, to: Literal["darktable", "onnx"], model: Model) -> None:
    """Say what the exported file does not do, and how to install it."""
    from amsnet_cli.exporting.darktable import OVERLAP
    from amsnet_cli.exporting.graph import LEFT_OUT

    say("the network alone; amsnet denoise also has, and the file has not:")
    for part in LEFT_OUT:
        say(f"- {part}")
    reach = model.network.network.reach
    if to == "darktable":
        if reach is None or reach > 2 * OVERLAP:
            say(
                f"it looks farther than the {OVERLAP} pixels by which darktable's tiles overlap, "
                "so their edges may show"
            )
        say(f"install it in darktable: Preferences, AI, import from file, {output}")


def _about(model: Model) -> dict[str, str]:
    """What the manifest or the fit knows of a model."""
    from amsnet_cli.weights.manifest import load_manifest

    manifest = load_manifest()
    if model.name in manifest:
        entry = manifest.entry(model.name)
        return {
            "title": entry.title, "scope": entry.purpose, "licence": entry.licence,
            "training_data": entry.trained_on, "author": "the amsnet authors",
        }  # fmt: skip
    cameras = ", ".join(sorted(model.config.cameras))
    fitted = str(model.config.provenance.get("fitted_on", ""))
    return {
        "title": f"Fitted to {cameras or fitted}" if cameras or fitted else "",
        "training_data": f"the noisy photos of {fitted}" if fitted else "",
    }
