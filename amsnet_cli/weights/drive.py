"""Public folders of Google Drive: find a file's download address by its exact name."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit

from amsnet_cli.weights.connection import SourceError, open_url

LISTING = "https://drive.google.com/embeddedfolderview?id={}"
DOWNLOAD = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"

_FOLDER = re.compile(r"https://drive\.google\.com/drive/folders/([\w-]+)")
_FILE = re.compile(r"/file/d/([\w-]+)")
_PAGE_LIMIT = 4 << 20


def is_folder(source: str) -> bool:
    """Whether a source is a Drive folder rather than a file."""
    return _FOLDER.fullmatch(source) is not None


def locate(folder: str, name: str) -> str:
    """Find the download address of a file in a folder.

    Args:
        folder: the folder's address.
        name: exact name of the file.

    Returns:
        An address that sends the file itself; it expires.

    Raises:
        SourceError: the folder has no file of that name, or several; Drive sends another file.
        TransientError: Drive fails temporarily.
    """
    match = _FOLDER.fullmatch(folder)
    assert match
    listing = _Listing()
    listing.feed(_read_page(LISTING.format(match[1])))
    names = {text for texts in listing.files.values() for text in texts}
    ids = [i for i, texts in listing.files.items() if name in texts]
    if len(ids) != 1:
        found = f"; it has {', '.join(sorted(names))}" if names else ""
        raise SourceError(f"the folder has {len(ids) or 'no'} files named {name}{found}")
    url = DOWNLOAD.format(ids[0])
    for _ in range(2):  # Before a large file, Drive sends a form ("can't scan for viruses").
        with open_url(url) as response:
            if response.headers.get_content_type() != "text/html":
                sent = response.headers.get_filename()
                if sent != name:
                    raise SourceError(f"Google Drive sends {sent or 'a file without a name'}")
                return url
            page = response.read(_PAGE_LIMIT).decode("utf-8", "replace")
        if "Too many users" in page:
            raise SourceError(
                "Google Drive's download quota for this file is used up, try again tomorrow"
            )
        form = _Form()
        form.feed(page)
        if not form.action or not form.inputs:
            raise SourceError("Google Drive answers with a web page instead of the file")
        url = f"{urljoin(url, form.action).split('?')[0]}?{urlencode(form.inputs)}"
        if urlsplit(url).hostname != urlsplit(DOWNLOAD).hostname:
            raise SourceError(f"Google Drive's form leads to {url}, which is not followed")
    raise SourceError("Google Drive keeps asking for confirmation")


def _read_page(url: str) -> str:
    with open_url(url) as response:
        return response.read(_PAGE_LIMIT).decode("utf-8", "replace")


class _Listing(HTMLParser):
    """Files of a folder: the texts of each link, one of them the file's name, by file id."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, list[str]] = {}
        self._texts: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            match = _FILE.search(dict(attrs).get("href") or "")
            self._texts = self.files.setdefault(match[1], []) if match else None

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._texts = None

    def handle_data(self, data: str) -> None:
        if self._texts is not None and data.strip():
            self._texts.append(data.strip())


class _Form(HTMLParser):
    """Target of a page's first form, and its hidden inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.action = ""
        self.inputs: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "form" and not self.action:
            self.action = attributes.get("action") or ""
        if tag == "input" and attributes.get("type") == "hidden" and attributes.get("name"):
            self.inputs[attributes["name"] or ""] = attributes.get("value") or ""
