"""Print docs/amsnet.1, the manual page of all commands, from the commands themselves.

python docs/make_man.py > docs/amsnet.1
"""

from __future__ import annotations

from make_cli import commands, described

from amsnet_cli import __version__
from amsnet_cli.cli.app import app

EXIT_CODES = (
    ("0", "all went well"), ("1", "a photo or a result could not be read or written"),
    ("2", "options that do not fit together"), ("3", "some photos failed, others are done"),
    ("4", "weights are missing, damaged or unknown"), ("5", "no such device, or out of memory"),
)  # fmt: skip
VARIABLES = (
    ("AMSNET_HOME", "folder of models and weights"), ("AMSNET_DEVICE", "as --device"),
    ("AMSNET_DEBUG", "1 shows tracebacks of errors"),
)  # fmt: skip


def text(words: str) -> str:
    """Return text as it stands in a line of roff."""
    escaped = words.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def listed(pairs: list[tuple[str, str]] | tuple[tuple[str, str], ...]) -> list[str]:
    """Return the lines of a list of terms in bold with their meanings."""
    return [line for term, what in pairs for line in (".TP", f"\\fB{text(term)}\\fR", text(what))]


def page() -> str:
    """Return the manual page."""
    lines = [
        f'.TH AMSNET 1 "" "amsnet {__version__}" "User Commands"',
        ".SH NAME", f"amsnet \\- {text(str(app.info.help)[:-1].lower())}",
        ".SH SYNOPSIS", ".B amsnet", "COMMAND [OPTIONS]", ".SH COMMANDS",
    ]  # fmt: skip
    for name, command in commands(app, "amsnet"):
        usage, paragraphs, options = described(name, command)
        lines += [f".SS {text(name)}", f"\\fB{text(usage)}\\fR"]
        for paragraph in paragraphs:
            lines += [".PP", text(paragraph)]
        lines += listed(options)
    lines += [".SH EXIT STATUS", *listed(EXIT_CODES), ".SH ENVIRONMENT", *listed(VARIABLES)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
