"""Does a video file end where its own structure says that it ends? Read from the box headers, not by decoding.

OpenCV reports a file that was cut off, while copying or when the recorder lost power, exactly like one that is
over: `read` returns false. Counting frames does not tell either, because for most containers the number that OpenCV
gives is an estimate from the duration (53 for a healthy Matroska file with 38 frames of uneven spacing). The sizes
that the container itself records are exact.

Layouts: ISO/IEC 14496-12 (MP4, MOV), RFC 8794 and RFC 9559 (EBML, Matroska, WebM), the OpenDML extension of RIFF AVI,
ISO/IEC 13818-1 (transport streams of 188-byte packets, 192 with Blu-ray time stamps).

Standard library only, because the vehicle's program uses it.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = ["Container", "inspect_container", "whole_fragments_bytes"]

# Boxes that ISO files have at the top level. Anything else after the last of them is padding that some dash-cams
# append, not a sign of a cut.
_ISO_TOP_LEVEL = frozenset(b"ftyp styp moov mdat moof mfra sidx free skip wide meta uuid udta".split())
_ISO_BEGINNINGS = frozenset(b"ftyp styp moov mdat free skip wide".split())
_EBML = b"\x1a\x45\xdf\xa3"
_MATROSKA_SEGMENT = b"\x18\x53\x80\x67"
_TS_SYNC = 0x47


@dataclass(frozen=True, slots=True)
class Container:
    """What the structure of a file says.

    Attributes:
        name: ``MP4``, ``Matroska``, ``AVI``, ``MPEG-TS``, or ``unknown``.
        size_bytes: of the file as it is.
        expected_bytes: what it needs at least, by its own structure; equal to ``size_bytes`` where it is whole or
            where the structure does not tell.
        has_index: an MP4 without its ``moov`` box cannot be played at all; True for everything else.
        duration_s: how long an MP4 says that it plays, trims by its edit list included; None where unknown.
    """

    name: str
    size_bytes: int
    expected_bytes: int
    has_index: bool = True
    duration_s: float | None = None

    @property
    def cut_off(self) -> bool:
        """Whether the file ends before its structure does."""
        return self.expected_bytes > self.size_bytes


def inspect_container(path: Path) -> Container:
    """Follow the structure of a file to its end.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        start = handle.read(256)
        if start[4:8] in _ISO_BEGINNINGS:
            return _iso(handle, size)
        if start[:4] == _EBML:
            return Container("Matroska", size, _matroska_end(start) or size)
        if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
            return Container("AVI", size, max(_riff_end(handle, size), size))
        for packet, offset in ((188, 0), (192, 4)):
            if len(start) > packet + offset and start[offset] == start[offset + packet] == _TS_SYNC:
                return Container("MPEG-TS", size, -(-size // packet) * packet)
    return Container("unknown", size, size)


def whole_fragments_bytes(path: Path) -> int:
    """Return how far a fragmented MP4 can be played: up to its last whole ``mdat``; 0 if there is none.

    Raises:
        OSError: the file cannot be read.
    """
    whole = position = 0
    with path.open("rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        while position + 8 <= size:
            handle.seek(position)
            length, kind = struct.unpack(">I4s", handle.read(8))
            if length == 1:
                (length,) = struct.unpack(">Q", handle.read(8).ljust(8, b"\0"))
            position += length
            if length < 8 or position > size:
                break
            if kind == b"mdat":
                whole = position
    return whole


def _iso(handle: BinaryIO, size: int) -> Container:
    position, end, has_index, duration_s = 0, 0, False, None
    while position + 8 <= size:
        handle.seek(position)
        length, kind = struct.unpack(">I4s", handle.read(8))
        if kind not in _ISO_TOP_LEVEL:
            break
        if length == 1:  # a 64-bit size follows
            (length,) = struct.unpack(">Q", handle.read(8).ljust(8, b"\0"))
        elif length == 0:  # until the end of the file
            length = size - position
        if kind == b"moov":
            has_index, duration_s = True, _movie_duration_s(handle.read(256))
        end = position + length
        if length < 8:
            break
        position = end
    return Container("MP4", size, max(end, size), has_index, duration_s)


def _movie_duration_s(moov: bytes) -> float | None:
    """Return the duration in the movie header; None where it is absent or, as in fragmented files, zero."""
    at = moov.find(b"mvhd")
    if at < 0:
        return None
    # After type, version, flags: creation and modification time (4 or 8 bytes each), time scale, duration.
    layout, offset = (">IQ", 24) if moov[at + 4 : at + 5] == b"\x01" else (">II", 16)
    fields = moov[at + offset : at + offset + struct.calcsize(layout)]
    if len(fields) < struct.calcsize(layout):
        return None
    time_scale, duration = struct.unpack(layout, fields)
    return duration / time_scale if time_scale and duration else None


def _matroska_end(start: bytes) -> int | None:
    """Return where the segment ends; None if it is of unknown size, as live recordings are."""
    at = start.find(_MATROSKA_SEGMENT)
    if at < 0 or at + 12 > len(start):
        return None
    first = start[at + 4]
    width = 9 - first.bit_length()  # leading zero bits of the first byte, plus one
    if not 1 <= width <= 8:
        return None
    data = start[at + 4 : at + 4 + width]
    length = int.from_bytes(data, "big") & ((1 << 7 * width) - 1)
    unknown = (1 << 7 * width) - 1
    return None if length == unknown else at + 4 + width + length


def _riff_end(handle: BinaryIO, size: int) -> int:
    """Return where the last RIFF chunk ends; files over 1 GiB have several."""
    position, end = 0, 0
    while position + 12 <= size:
        handle.seek(position)
        kind, length = struct.unpack("<4sI", handle.read(8))
        if kind != b"RIFF" or length < 4:
            break
        end = position + 8 + length
        position = end + length % 2
    return end
