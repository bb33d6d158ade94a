"""Recordings that are named by a ``file:`` URL (RFC 8089), as file managers and browsers hand them on."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote_to_bytes

from drivetl.errors import VideoError, printable_source, quoted

__all__ = ["without_file_url"]

_FILE_URL = re.compile("file:(?=/)(?://([^/]*))?(.*)", re.IGNORECASE | re.DOTALL)


def without_file_url(source: str) -> str:
    """Return the path that a ``file:`` URL means, ``%20`` and the like decoded; any other source as it is.

    Otherwise FFmpeg would open it as a stream, and no one would notice that an output is the same file. Without a
    slash behind the colon it is the name of a file.

    Raises:
        VideoError: it names a file of another machine.
    """
    found = _FILE_URL.fullmatch(source)
    if found is None:
        return source
    host, path = found[1] or "", found[2]
    if host.lower() not in ("", "localhost", "127.0.0.1"):
        raise VideoError(
            f"the source {quoted(printable_source(source))} names a file of another machine; give a path of this one, "
            f"with three slashes as a URL: file:///…"
        )
    return os.fsdecode(unquote_to_bytes(os.fsencode(path)))
