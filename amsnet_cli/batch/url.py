"""What tells a URL from a path; on its own, as the command line starts with it."""

from __future__ import annotations

import re

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def is_url(text: str | None) -> bool:
    """Return whether an argument is a URL rather than a path."""
    return text is not None and _URL.match(text) is not None
