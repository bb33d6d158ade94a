"""Every error that drivetl raises on purpose. Standard library only, because the in-vehicle runtime uses it.

::

    DrivetlError            exit status 2: the input cannot be used; the message says what, where and the remedy
    ├── ConfigError         a recipe, card or profile does not fit its schema
    ├── DatasetError        dataset files are missing or malformed
    ├── WeightsError        a checkpoint is missing, not a checkpoint, or refused as unsafe
    ├── BundleError         a bundle is missing, altered or of an unknown schema
    ├── DeviceError         a GPU failed while it computed: out of memory, or lost; the bundle may be whole
    ├── ImageError          a picture cannot be used (unreadable, wrong dtype or shape, too large)
    ├── VideoError          a video, camera or stream cannot be used
    ├── OutputError         a result cannot be written (exists, no permission, disk full)
    ├── DownloadError       a download failed or has the wrong hash
    ├── MissingExtraError   the base install lacks an optional package
    ├── Stopped             exit status 128 + the signal: the system or the terminal ended the work
    └── GateFailed          exit status 1: the work was done, and its verdict is no
        └── ProviderUnavailable   an execution provider was asked for and cannot run here
"""

from __future__ import annotations

import re
import signal

__all__ = [
    "BundleError",
    "ConfigError",
    "DatasetError",
    "DeviceError",
    "DownloadError",
    "DrivetlError",
    "GateFailed",
    "ImageError",
    "MissingExtraError",
    "OutputError",
    "ProviderUnavailable",
    "Stopped",
    "VideoError",
    "WeightsError",
    "encodable",
    "printable_source",
    "quoted",
]

_PARAMETERS = re.compile("[=&;]|%3[BD]|%26", re.IGNORECASE)  # of a URL, which may hold a password
_URL = re.compile("[A-Za-z][A-Za-z0-9+.-]*://")
# In a pipeline; up to the last @ of all, because an account may hold spaces and exclamation marks.
_URL_WITHIN = re.compile(r"[A-Za-z0-9+.-]*://(?:.*@)?\S*", re.DOTALL)
_SECRET = re.compile(
    r"([\w-]*(?:user|proxy-id|pw|pass|key|token|secret|auth|cookie|header)[\w-]*\s*=\s*)"
    r"""(?:\\.|"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|\S)+""",
    re.IGNORECASE | re.DOTALL,
)


class DrivetlError(Exception):
    """Base of all deliberate errors. ``str(error)`` is one sentence with value, place and remedy."""

    exit_status = 2


class ConfigError(DrivetlError):
    """A recipe, card, profile or option does not fit its schema."""


class DatasetError(DrivetlError):
    """Dataset files are missing, malformed or contradict each other."""


class WeightsError(DrivetlError):
    """A checkpoint is missing, is not a checkpoint, or wants more than plain tensors to load."""


class BundleError(DrivetlError):
    """A bundle is missing, incomplete, altered since export, or of a schema this version does not read."""


class DeviceError(DrivetlError):
    """A GPU failed while a bundle ran on it: its memory is full, its driver lost it, or a library of it gave up."""


class ImageError(DrivetlError):
    """A picture is unreadable or has a shape, dtype or size that is not accepted."""


class VideoError(DrivetlError):
    """A video source cannot be opened or read, or a video cannot be encoded."""


class OutputError(DrivetlError):
    """A result cannot be written; what stood at the target before is unchanged."""


class DownloadError(DrivetlError):
    """A download did not arrive whole or is not the file that was expected."""


class MissingExtraError(DrivetlError):
    """A verb needs packages that the base install does not bring."""


class Stopped(DrivetlError):
    """A signal that ends a program came; ``left`` says what became of the work."""

    def __init__(self, number: int, left: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; {left}")
        self.exit_status = 128 + number


class GateFailed(DrivetlError):
    """A gate (parity, latency, accuracy, dataset check) gave its verdict, and the verdict is no."""

    exit_status = 1


class ProviderUnavailable(GateFailed):
    """An execution provider was asked for and cannot run here. There is no fallback to the CPU."""


def encodable(text: str) -> str:
    """Return a text that UTF-8 can hold: bytes of a file name in another encoding (PEP 383) become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def quoted(value: object, limit: int = 120) -> str:
    """Return ``value`` in single quotes, safe to print on a terminal.

    Control characters (terminal escape sequences among them) and bidirectional overrides are shown as escapes,
    and text longer than ``limit`` characters is shortened in the middle.
    """
    text = str(value)
    if len(text) > limit:
        half = (limit - 1) // 2
        text = f"{text[:half]}…{text[-half:]}"
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return f"'{safe}'"


def printable_source(source: str) -> str:
    """Return a source without what may be secret in it: user name, password, parameters and query of a URL.

    Of a path, what holds one of ``= & ;`` is left out, because some recorders take their passwords there. In a
    GStreamer pipeline, properties whose names suggest a secret (``user-id``, ``user-pw``, ``token``) lose their values.
    """
    if _URL.match(source):
        return _printable_url(source)
    found = _URL_WITHIN.search(source)
    if found is not None:
        # Behind this one there is no account, so that the others need only lose their parameters.
        rest = _URL_WITHIN.sub(lambda url: _printable_url(url[0]), source[found.start() :])
        return _SECRET.sub(r"\1…", _without_account(source[: found.start()]) + rest)
    # One slash is a slip of the fingers, and what follows it a password all the same.
    slip = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/.*[@=&;?#]", source, re.DOTALL)
    shown = _without_account(source) if slip is None else f"{slip[1]}:/…"
    return _SECRET.sub(r"\1…", shown) if "!" in source else shown


def _printable_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    user, at, address = rest.rpartition("@")
    if re.search("[/?#]", user):
        # A password with such a letter, or an @ in the query: nothing says which, and either may be secret.
        return f"{scheme}://…"
    address, *query = re.split("[?#]", address, maxsplit=1)
    host, slash, path = address.partition("/")
    if _PARAMETERS.search(host):
        return f"{scheme}://…"
    shown = f"{host}{slash}…" if _PARAMETERS.search(path) else f"{address}{'?…' if query else ''}"
    return f"{scheme}://{'…@' if at else ''}{shown}"


def _without_account(source: str) -> str:
    """Hide what stands before an @ behind // or a colon: a URL whose scheme was mistyped holds a password too."""
    before, at, address = source.rpartition("@")
    start = re.search("//|:", before)
    if not at or start is None or re.match(r"[A-Za-z]:[\\/]", source):  # that is a drive of Windows
        return source
    # A password with such a letter, or an @ in the query: nothing says which, and either may be secret.
    unsure = re.search("[/?#]", before[start.end() :]) or re.search("[?#]", address) or _PARAMETERS.search(address)
    return "…" if unsure else f"…@{address}"
