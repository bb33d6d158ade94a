"""Fetch one file over HTTP: resumed where it stopped, compared with its hash, and in its place only when whole.

Standard library only, and no knowledge of what is fetched; only ``drivetl data get`` and ``drivetl weights get`` lead
here.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from drivetl.errors import DownloadError, OutputError, quoted
from drivetl.files import locked_file, sha256_file, writing
from drivetl.progress import Progress, silent

__all__ = ["fetch", "without_credentials"]

_CHUNK = 1 << 18
_ATTEMPTS_WITHOUT_PROGRESS = 3
_MESSAGES = {404: "there is no such file", 403: "access is refused", 401: "it wants a login"}
# What a connection ends with: beside refusals of its own the system's, such as no route to the host, and those of TLS.
_BROKEN = (OSError, http.client.HTTPException)


class _Interrupted(Exception):
    """The connection ended early; what came so far is kept."""


def fetch(
    url: str,
    target: Path,
    *,
    sha256: str | None,
    progress: Progress = silent,
    timeout_s: float = 30,
    ca_file: Path | None = None,
) -> str:
    """Fetch ``url`` to ``target`` and return the SHA-256 of the file.

    Bytes are gathered in ``.NAME.part`` beside the target. A connection that breaks is taken up again there, at once
    and in a later call, as long as the server still has the same file (``If-Range``, RFC 9110). A file that already
    stands at ``target`` is returned without a connection if it has the wanted hash.

    Args:
        url: http or https, may carry ``user:password@``; a redirect from https to http is refused.
        target: where the file goes.
        sha256: 64 hexadecimal digits the file must have, or None to accept any.
        progress: told the bytes done and in total.
        timeout_s: longest silence of the server in seconds.
        ca_file: certificates to trust instead of the system's.

    Raises:
        DownloadError: not http(s), the server refuses or keeps breaking off, or the hash is another.
        OutputError: ``target`` exists with another hash (or no wanted hash), cannot be written, or another process is
            fetching it.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{quoted(url)} is not an http or https address")
    url, authorization = without_credentials(url)
    if target.exists():
        return _existing(target, sha256)
    opener = _opener(ca_file)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(target, url)
    # Two would append to one file, and it would have no hash to betray it.
    with locked_file(part.path, f"another process is fetching {quoted(target)}; wait for it, or end it"):
        try:
            if target.exists():  # by the process that fetched it until now
                return _existing(target, sha256)
            _gather(part, authorization, opener, progress, timeout_s)
            return part.accept(sha256)
        finally:
            part.forget_if_empty()


def _gather(
    part: _Part,
    authorization: str | None,
    opener: urllib.request.OpenerDirector,
    progress: Progress,
    timeout_s: float,
) -> None:
    """Make requests until the unfinished file is whole."""
    idle = 0
    while True:
        before = part.size()
        try:
            _continue(_request(part.url, authorization), opener, part, progress, timeout_s)
            return
        except _Interrupted as error:
            idle = 0 if part.size() > before else idle + 1
            if idle >= _ATTEMPTS_WITHOUT_PROGRESS:
                if not part.size():
                    raise DownloadError(
                        f"nothing came from {quoted(part.url)} ({error}); check the network, then run the command again"
                    ) from error
                raise DownloadError(
                    f"the connection for {quoted(part.url)} broke off after {part.size()} bytes ({error}); run the "
                    "command again to continue there"
                ) from error


def _existing(target: Path, sha256: str | None) -> str:
    found = sha256_file(target)
    if found != sha256:
        wanted = f"its sha256 is {found}, not {sha256}" if sha256 else "it would be overwritten"
        raise OutputError(f"{quoted(target)} exists and {wanted}; remove it first")
    return found


class _Part:
    """The unfinished file and, beside it, what identifies the file that it is the beginning of."""

    def __init__(self, target: Path, url: str) -> None:
        self.target = target
        self.url = url
        self.path = target.with_name(f".{target.name}.part")
        self._about = target.with_name(f".{target.name}.part.json")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def validator(self) -> str | None:
        """Return the ETag or date of the unfinished file, or None if it cannot be continued."""
        try:
            about = json.loads(self._about.read_bytes())
        except (OSError, ValueError):
            return None
        same = isinstance(about, dict) and about.get("url") == self.url
        return str(about["validator"]) if same and about.get("validator") else None

    def restart(self, validator: str | None) -> None:
        with writing(self.target):
            self.path.write_bytes(b"")
            self._about.write_text(json.dumps({"url": self.url, "validator": validator}), encoding="utf-8")

    def forget_if_empty(self) -> None:
        """Leave nothing where nothing came."""
        with writing(self.target):
            if self.path.is_file() and not self.size():
                self.path.unlink()
                self._about.unlink(missing_ok=True)

    def accept(self, sha256: str | None) -> str:
        found = sha256_file(self.path)
        with writing(self.target):
            if sha256 is not None and found != sha256:
                self.path.unlink()
                self._about.unlink(missing_ok=True)
                raise DownloadError(
                    f"{quoted(self.url)} has the sha256 {found}, expected {sha256}; the file was not kept: it is not "
                    "what was published, or it was damaged on the way"
                )
            self.path.replace(self.target)
            self._about.unlink(missing_ok=True)
        return found


def without_credentials(url: str) -> tuple[str, str | None]:
    """Return a URL that may be shown and stored, and the ``Authorization`` that its user and password stand for."""
    parts = urlsplit(url)
    account, _, host = parts.netloc.rpartition("@")
    if not account:
        return url, None
    user, _, password = account.partition(":")
    token = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode("ascii")
    return parts._replace(netloc=host).geturl(), f"Basic {token}"


def _request(url: str, authorization: str | None) -> urllib.request.Request:
    request = urllib.request.Request(url, headers={"User-Agent": "drivetl", "Accept-Encoding": "identity"})
    if authorization is not None:
        # Unredirected: another host that the server points to does not get them.
        request.add_unredirected_header("Authorization", authorization)
    return request


def _continue(
    request: urllib.request.Request,
    opener: urllib.request.OpenerDirector,
    part: _Part,
    progress: Progress,
    timeout_s: float,
) -> None:
    """Make one request and append what comes."""
    url = request.full_url
    validator = part.validator()
    done = part.size() if validator is not None else 0
    if done and validator is not None:
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", validator)
    try:
        with opener.open(request, timeout=timeout_s) as response:
            if response.status != 206 or not done:
                done = 0
                part.restart(_validator(response.headers))
            total = _total(response.headers, response.status, done, url)
            _append(response, part, done, total, progress)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and done:
                part.restart(None)
                raise _Interrupted("the server no longer knows that part") from error
            reason = _MESSAGES.get(error.code, error.reason)
            raise DownloadError(f"{quoted(url)} cannot be fetched: {reason} (HTTP {error.code})") from error
    except _BROKEN as error:
        raise _interrupted(error) from error


def _interrupted(error: Exception) -> _Interrupted:
    return _Interrupted(str(getattr(error, "reason", "") or error or type(error).__name__))


def _append(response: IO[bytes], part: _Part, done: int, total: int | None, progress: Progress) -> None:
    label = f"fetching {part.target.name}"
    progress(label, done, total)
    # Around the whole, because what the buffer still holds is written when it is closed.
    with writing(part.target), part.path.open("ab") as handle:
        for chunk in _chunks(response):
            handle.write(chunk)
            done += len(chunk)
            progress(label, done, total)
    size = part.size()
    if size == done and total is not None and done < total:
        raise _Interrupted(f"{total - done} bytes are missing")
    if size != done or (total is not None and done > total):
        part.restart(None)
        raise _Interrupted(
            "more bytes came than the server had announced" if size == done else "something else wrote to the file"
        )


def _chunks(response: IO[bytes]) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read(_CHUNK)
        except _BROKEN as error:
            raise _interrupted(error) from error
        if not chunk:
            return
        yield chunk


def _validator(headers: Message) -> str | None:
    """Return what ``If-Range`` may carry: a strong ETag, else the date of the file."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _total(headers: Message, status: int, done: int, url: str) -> int | None:
    if status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range") or "")
        if match is None or int(match[1]) != done:
            raise DownloadError(
                f"{quoted(url)}: the server answered with another part than was asked for; try again later"
            )
        return int(match[2])
    length = headers.get("Content-Length")
    return int(length) if length and length.isdigit() else None


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        allowed = ("https",) if req.type == "https" else ("http", "https")
        if urlsplit(newurl).scheme not in allowed:
            raise DownloadError(f"{quoted(req.full_url)} redirects to {quoted(newurl)}, which is refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(ca_file: Path | None) -> urllib.request.OpenerDirector:
    """Return an opener for http and https alone; urllib's default would follow to ftp."""
    opener = urllib.request.OpenerDirector()
    try:
        context = None if ca_file is None else ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise DownloadError(f"the certificates in {quoted(ca_file)} cannot be read: {error}") from error
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=context),
        _Redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ]
    for handler in handlers:
        opener.add_handler(handler)
    return opener
