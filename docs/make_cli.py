"""Print docs/cli.md, the page of all commands and options, from the commands themselves.

python docs/make_cli.py > docs/cli.md
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any, Literal

import typer

from amsnet_cli.cli.app import app

INTRODUCTION = """# Command line

All commands and their options, as `amsnet COMMAND --help` shows them. This page is made by \
`python docs/make_cli.py > docs/cli.md`."""


def commands(group: typer.Typer, name: str) -> Iterator[tuple[str, Callable[..., None]]]:
    """Yield the function of each command with its full name."""
    for command in group.registered_commands:
        assert command.callback is not None
        yield f"{name} {command.name or command.callback.__name__}", command.callback
    for subgroup in group.registered_groups:
        assert subgroup.typer_instance is not None
        yield from commands(subgroup.typer_instance, f"{name} {subgroup.name}")


def described(
    name: str, command: Callable[..., None]
) -> tuple[str, list[str], list[tuple[str, str]]]:
    """Return a command's usage, the paragraphs of its help, and its options with their meanings."""
    usage, rows = name, []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        kind, info = typing.get_args(parameter.annotation)[:2]
        required = parameter.default is inspect.Parameter.empty
        text = info.help
        if info.__class__.__name__ == "ArgumentInfo":
            label = info.metavar + "..." * (typing.get_origin(kind) is list)
            usage += f" {label}" if required else f" [{label}]"
        else:
            # Within Annotated, typer.Option takes its first name for the default.
            names = [n for n in (info.default, *(info.param_decls or ())) if isinstance(n, str)]
            names = names or [f"--{parameter.name.replace('_', '-')}"]
            label = f"{', '.join(names)} {info.metavar or value(kind, info)}".strip()
            usage += f" {names[0]} {info.metavar}" if required else ""
            if parameter.default not in (None, False, inspect.Parameter.empty):
                text += f" (default: {parameter.default})"
            if info.envvar:
                text += f" (environment: {info.envvar})"
        rows.append((label, " ".join(text.split())))
    help_text = inspect.getdoc(command) or ""
    paragraphs = [" ".join(text.split()) for text in help_text.split("\n\n")]
    return f"{usage} [OPTIONS]", paragraphs, rows


def section(name: str, command: Callable[..., None]) -> str:
    """Return the Markdown of a command: help, usage, arguments and options."""
    usage, paragraphs, options = described(name, command)
    rows = [f"| `{cell(label)}` | {cell(text)} |" for label, text in options]
    parts = [f"## {name}", *paragraphs, f"```sh\n{usage}\n```"]
    if rows:
        parts.append("\n".join(["| option | meaning |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def value(kind: Any, info: Any) -> str:
    """Return the placeholder of an option's value."""
    kinds = typing.get_args(kind) or (kind,)
    if typing.get_origin(kind) is Literal:
        return "|".join(map(str, kinds))
    if typing.get_origin(kinds[0]) is Literal:
        return "|".join(map(str, typing.get_args(kinds[0])))
    if bool in kinds:
        return ""
    if info.max is not None:
        return f"{info.min or 0}..{info.max}"
    return "N" if int in kinds else "X" if float in kinds else "TEXT"


def cell(text: str) -> str:
    """Return text as it stands in a cell of a Markdown table."""
    return text.replace("|", "\\|")


def page() -> str:
    """Return the Markdown of the page."""
    sections = [section(*named) for named in commands(app, "amsnet")]
    return "\n\n".join([INTRODUCTION, *sections]) + "\n"


if __name__ == "__main__":
    print(page(), end="")
