"""The index of an MP4 that was cut off before it, made anew from the frames of MPEG-4 part 2.

OpenCV writes the index of an MP4 or MOV (ISO/IEC 14496-12, the box ``moov``) when the file is complete, and nothing on
a full disk. The frames are all there, one after the other in ``mdat``, and each begins with a start code that occurs
nowhere else (ISO/IEC 14496-2, 6.2.1). Everything but their sizes stands in the index of any other file of the same
encoder, size and rate, of which one frame is enough.
"""

from __future__ import annotations

import itertools
import mmap
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["restore_index"]

# A group of pictures may have a header, which belongs to the frame (VOP) behind it.
_START = re.compile(b"\x00\x00\x01[\xb3\xb6]")
_VOP = 0xB6
_INSIDE = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"})
# Where durations stand in version 0, counted from the end of the box's header.
_DURATION_AT = {b"mvhd": 16, b"tkhd": 20, b"mdhd": 16, b"elst": 8}
_CLOCK_AT = 12
_MOST = 0xFFFFFFFF
_HEADER_BYTES = 8
# What the index needs at most beyond that of one frame: two numbers for each frame and one more box.
_FRAME_BYTES, _EXTRA_BYTES = 8, 16


class _Frame(NamedTuple):
    begin: int
    key: bool


def restore_index(path: Path, model: bytes) -> int:
    """Give a file that was cut off its index, in the place of its last frames; it grows by no byte.

    Args:
        path: what OpenCV wrote of an MP4 or MOV with MPEG-4 part 2.
        model: a whole file that it wrote of one frame of the same size, at the same rate.

    Returns:
        How many frames can be played. With 0 the file is as it was.

    Raises:
        OSError: the file cannot be read or written.
    """
    with path.open("r+b") as handle:
        size = handle.seek(0, 2)
        front = _first_of(model, b"mdat")
        index = _first_of(model, b"moov")
        if front is None or index is None or size <= front + 2 * _HEADER_BYTES:
            return 0
        handle.seek(front)
        (stated,) = struct.unpack(">I", handle.read(4))
        end = min(size, front + stated) if stated > 1 else size
        frames = _frames(handle.fileno(), front + _HEADER_BYTES, end)
        # The last one counts only as the end of the one before: nothing says whether it is whole.
        count = len(frames) - 1
        while count > 0 and frames[count].begin + len(model) - index + _EXTRA_BYTES + count * _FRAME_BYTES > size:
            count -= 1
        if count <= 0:
            return 0
        handle.seek(frames[count].begin)
        handle.write(_index(model[index:], frames[: count + 1]))
        handle.truncate()
        # The form with 64 bits takes the place of the empty box that stands before for that purpose.
        handle.seek(front - _HEADER_BYTES)
        handle.write(struct.pack(">I4sQ", 1, b"mdat", frames[count].begin - front + _HEADER_BYTES))
    return count


def _boxes(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield place, length and kind of each box."""
    place = 0
    while place + _HEADER_BYTES <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if length < _HEADER_BYTES:
            return
        yield place, length, kind
        place += length


def _first_of(data: bytes, wanted: bytes) -> int | None:
    return next((place for place, _, kind in _boxes(data) if kind == wanted), None)


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", _HEADER_BYTES + len(body), kind) + body


def _frames(descriptor: int, begin: int, end: int) -> list[_Frame]:
    """Return where frames begin, and whether they can be decoded without others."""
    frames: list[_Frame] = []
    header: int | None = None
    with mmap.mmap(descriptor, end, access=mmap.ACCESS_READ) as view:
        for found in _START.finditer(view, begin):
            place = found.start()
            if view[place + 3] != _VOP:
                header = place
            elif place + 4 < end:
                # The first two bits are the kind of the frame; 0 stands alone.
                frames.append(_Frame(place if header is None else header, view[place + 4] >> 6 == 0))
                header = None
        del found  # it refers to the view, which could not be closed
    return frames


def _index(model: bytes, frames: list[_Frame]) -> bytes:
    """Return the box ``moov`` for all frames but the last, which says where they end.

    Args:
        model: begins with the ``moov`` of a file with one frame.
        frames: of the file.
    """
    count = len(frames) - 1
    sizes = [after.begin - frame.begin for frame, after in itertools.pairwise(frames)]
    keys = [number for number, frame in enumerate(frames[:-1], start=1) if frame.key]
    tables = {
        b"stss": struct.pack(f">II{len(keys)}I", 0, len(keys), *keys),
        b"stsc": struct.pack(">5I", 0, 1, 1, count, 1),  # all of them in one chunk
        b"stsz": struct.pack(f">III{count}I", 0, 0, count, *sizes),
        b"stco": struct.pack(">III", 0, 1, frames[0].begin),
    }

    def number(kind: bytes, at: int) -> int:
        return int(struct.unpack_from(">I", model, model.index(kind) + 4 + at)[0])

    media = count * number(b"stts", 12)
    # The film has another clock than its track; a part of its tick counts as one.
    film = -(-media * number(b"mvhd", _CLOCK_AT) // number(b"mdhd", _CLOCK_AT))

    def again(content: bytes) -> bytes:
        parts = []
        for place, length, kind in _boxes(content):
            body = content[place + _HEADER_BYTES : place + length]
            if kind in _INSIDE:
                body = again(body)
                if kind == b"stbl":
                    body += b"".join(_box(table, entries) for table, entries in tables.items())
            elif kind in tables:
                continue
            elif kind == b"stts":
                body = struct.pack(">IIII", 0, 1, count, number(b"stts", 12))
            elif kind in _DURATION_AT:
                at, duration = _DURATION_AT[kind], media if kind == b"mdhd" else film
                body = body[:at] + struct.pack(">I", min(_MOST, duration)) + body[at + 4 :]
            parts.append(_box(kind, body))
        return b"".join(parts)

    place, length, _ = next(_boxes(model))
    return again(model[place : place + length])
