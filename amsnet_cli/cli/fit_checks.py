"""Where `amsnet fit` writes, and what may not be there yet; checked before anything is computed."""

from __future__ import annotations

from pathlib import Path

from amsnet_cli.errors import OutputError, UsageError


def model_file(folder: Path, chosen: Path | None) -> Path:
    """Return where the model goes: as chosen, or named like the folder in the data folder.

    Raises:
        UsageError: it cannot have that name.
    """
    from amsnet_cli.weights.manifest import SUFFIX, load_manifest
    from amsnet_cli.weights.store import AUTO, models_dir

    if chosen:
        if chosen.suffix != SUFFIX:
            raise UsageError(f"{chosen}: models are {SUFFIX} files", f"add {SUFFIX}")
        return chosen
    name = folder.resolve().name
    if not name or name == AUTO or name in load_manifest():
        raise UsageError(f"a model cannot be named {name or '/'!r}", "choose a file with -o")
    return models_dir() / f"{name}{SUFFIX}"


def check_model_file(output: Path, *, replaced: bool) -> None:
    """Check that a model file is not there yet, unless it is to be replaced.

    Raises:
        OutputError: it is.
    """
    if output.exists() and not replaced:
        raise OutputError(f"{output}: exists already", "replace it with --force, or choose with -o")


def page_of(output: Path, chosen: Path | None, *, force: bool) -> Path:
    """Return where the page of a fit goes: as chosen, or beside the model file.

    Raises:
        OutputError: it cannot be written.
    """
    from amsnet_cli.weights.store import page_path

    page = chosen or page_path(output)
    if chosen or page.exists():
        from amsnet_cli.report.html import check_report

        check_report(page, force=force)
    return page


def resumes(output: Path, *, asked: bool, force: bool) -> bool:
    """Return whether a fit continues from its checkpoint: if asked to, or restarted by torchrun.

    Raises:
        OutputError: there is a checkpoint, and nobody said what to do with it.
    """
    from amsnet_cli.fitting.checkpoint import checkpoint_path
    from amsnet_cli.fitting.distributed import was_restarted

    checkpoint = checkpoint_path(output)
    resume = asked or (was_restarted() and not force and checkpoint.exists())
    if checkpoint.exists() and not (force or resume):
        raise OutputError(
            f"{checkpoint}: the checkpoint of an interrupted fit",
            "continue with --resume, or start over with --force",
        )
    return resume
