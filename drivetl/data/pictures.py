"""Picture files: their size from the header alone, and a decode that notices when the file ends too early."""

from __future__ import annotations

import os
import re
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.errors import ImageError, quoted

__all__ = [
    "MAX_PIXELS",
    "PICTURE_ENDINGS",
    "UNREAD_ENDINGS",
    "PictureError",
    "decode_picture",
    "decode_small_grey",
    "has_its_end",
    "is_picture",
    "picture_size_hw",
]

PICTURE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
# Ultralytics trains on these too, and drivetl does not read them.
UNREAD_ENDINGS = frozenset({".avif", ".dng", ".heic", ".heif", ".jp2", ".mpo", ".tif", ".tiff"})
MAX_PIXELS = 100_000_000

_MAX_FILE_BYTES = 500_000_000
_SMALL_PX = 144
# By the first two bytes of a file.
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND\xaeB`\x82"}
_TAIL_BYTES = 1 << 16
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers: 0xC0 to 0xCF without DHT (C4), JPG (C8) and DAC (CC).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN = 0xDA
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
# In entropy-coded data 0xFF is followed by 00 (stuffing), by a restart marker or by fill bytes; all else is a marker.
_JPEG_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_BMP_CORE_HEADER = 12
_WEBP_HAS_EXIF = 0x08
_EXIF_ORIENTATION = 0x0112
# Orientations 5 to 8 turn the picture by a quarter, so height and width change places.
_QUARTER_TURNS = frozenset({5, 6, 7, 8})

Kind = Literal["picture_missing", "picture_unreadable", "picture_truncated", "picture_too_large"]


class PictureError(ImageError):
    """A picture file that cannot be used; ``kind`` says why in one word for `drivetl.data.check_dataset`."""

    def __init__(self, kind: Kind, path: Path, reason: str) -> None:
        super().__init__(f"{quoted(path)} {reason}")
        self.kind = kind


def is_picture(path: Path) -> bool:
    """Say whether the ending of ``path`` is one of `PICTURE_ENDINGS`, in any case."""
    return path.suffix.lower() in PICTURE_ENDINGS


def picture_size_hw(path: Path) -> tuple[int, int]:
    """Return height and width in pixels as OpenCV will decode them (EXIF orientation applied), from the header.

    Reads JPEG (ISO/IEC 10918-1), PNG (ISO/IEC 15948), BMP and WebP (RFC 9649) headers.

    Raises:
        PictureError: the file is missing, is none of these, ends in its header, or has more than `MAX_PIXELS`.
    """
    try:
        if path.exists() and not path.is_file():
            # A pipe or device would be waited for without end.
            raise PictureError("picture_unreadable", path, "is no file; give a picture or leave it out")
        with path.open("rb") as handle:
            size_hw = _header_size_hw(handle, path)
    except FileNotFoundError as error:
        raise PictureError("picture_missing", path, "does not exist; restore the picture or import again") from error
    except OSError as error:
        raise PictureError("picture_unreadable", path, f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a null byte in the name
        raise PictureError("picture_missing", path, f"cannot exist: {error}; correct the name") from error
    except (struct.error, IndexError) as error:
        raise PictureError(
            "picture_truncated", path, "ends inside its header, or the header is damaged; copy the picture again"
        ) from error
    return _accepted(size_hw, path)


def decode_picture(path: Path) -> npt.NDArray[np.uint8]:
    """Return the whole picture as ``(height, width, 3)`` uint8 BGR, EXIF orientation applied.

    OpenCV fills what is missing of a truncated file with grey and reports success, so the structure of the file is
    followed to its end marker first.

    Raises:
        PictureError: the file is missing, no picture, truncated, damaged, or has more than `MAX_PIXELS`.
    """
    image_bgr = cv2.imdecode(_whole_file(path), cv2.IMREAD_COLOR)
    if image_bgr is None:
        raise PictureError("picture_unreadable", path, "is damaged: OpenCV cannot decode it")
    return np.asarray(image_bgr, np.uint8)


def decode_small_grey(path: Path) -> npt.NDArray[np.uint8]:
    """Return the picture as ``(height, width)`` uint8 grey, a quarter of its size unless it is small already.

    A JPEG is decoded at that size in the first place, which takes a third of the time of `decode_picture`.

    Raises:
        PictureError: as for `decode_picture`.
    """
    reduce = min(picture_size_hw(path)) >= _SMALL_PX
    data = _whole_file(path)
    image_grey = cv2.imdecode(data, cv2.IMREAD_REDUCED_GRAYSCALE_4 if reduce else cv2.IMREAD_GRAYSCALE)
    if image_grey is None:
        raise PictureError("picture_unreadable", path, "is damaged: OpenCV cannot decode it")
    return np.asarray(image_grey, np.uint8)


def _whole_file(path: Path) -> npt.NDArray[np.uint8]:
    """Return the bytes of a picture whose header is acceptable and whose structure reaches its end marker."""
    picture_size_hw(path)
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise PictureError("picture_too_large", path, f"is larger than {_MAX_FILE_BYTES} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise PictureError("picture_unreadable", path, f"cannot be read: {error.strerror or error}") from error
    if not _is_whole(data):
        raise PictureError("picture_truncated", path, "ends before its last pixel; copy the picture again")
    return np.frombuffer(data, np.uint8)


def _accepted(size_hw: tuple[int, int], path: Path) -> tuple[int, int]:
    height, width = size_hw
    if height < 1 or width < 1:
        raise PictureError("picture_unreadable", path, f"says that it is {width} x {height} pixels")
    if height * width > MAX_PIXELS:
        raise PictureError(
            "picture_too_large", path, f"is {width} x {height} pixels; at most {MAX_PIXELS // 10**6} million are read"
        )
    return size_hw


def _header_size_hw(handle: BinaryIO, path: Path) -> tuple[int, int]:
    start = handle.read(32)
    if start[:2] == b"\xff\xd8":
        handle.seek(2)
        return _jpeg_size_hw(handle)
    if start[:8] == _PNG_SIGNATURE:
        return _png_size_hw(handle, start)
    if start[:2] == b"BM":
        return _bmp_size_hw(start)
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return _webp_size_hw(handle, start)
    raise PictureError("picture_unreadable", path, "is not a JPEG, PNG, BMP or WebP picture")


def _turned(size_hw: tuple[int, int], orientation: int) -> tuple[int, int]:
    height, width = size_hw
    return (width, height) if orientation in _QUARTER_TURNS else (height, width)


def _jpeg_size_hw(handle: BinaryIO) -> tuple[int, int]:
    """Walk the markers up to the first scan: EXIF may stand after the frame's header, and the first one counts."""
    orientation = size_hw = None
    while True:
        marker = handle.read(2)
        while marker[0] == 0xFF and marker[1] == 0xFF:  # fill bytes
            marker = marker[1:] + handle.read(1)
        if marker[0] != 0xFF:
            raise IndexError
        if marker[1] in _JPEG_WITHOUT_LENGTH:
            continue
        if marker[1] == _JPEG_SCAN and size_hw is not None:
            return _turned(size_hw, orientation or 1)
        (length,) = struct.unpack(">H", handle.read(2))
        if length < 2:
            raise IndexError
        place = handle.tell() + length - 2
        if marker[1] in _JPEG_FRAMES:
            size_hw = struct.unpack(">xHH", handle.read(5))
        elif marker[1] == 0xE1 and orientation is None:
            segment = handle.read(length - 2)
            if segment[:6] == b"Exif\0\0":
                orientation = _exif_orientation(segment[6:])
        handle.seek(place)


def _exif_orientation(tiff: bytes) -> int | None:
    """Return the orientation in a TIFF header's first directory; None where it is absent or malformed.

    As in OpenCV, the first entry counts, whatever its type, even if the directory after it is cut off.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return None
    try:
        (offset,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, offset)
        for index in range(count):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, offset + 2 + 12 * index)
            if tag == _EXIF_ORIENTATION:
                return int(value)
    except struct.error:
        return None
    return None


def _bmp_size_hw(start: bytes) -> tuple[int, int]:
    (length,) = struct.unpack("<I", start[14:18])
    # The first header, OS/2's, has 16 bits a side; those after it 32, and a sign that says which row comes first.
    sides, end = ("<HH", 22) if length == _BMP_CORE_HEADER else ("<ii", 26)
    width, height = struct.unpack(sides, start[18:end])
    return abs(height), abs(width)


def _png_size_hw(handle: BinaryIO, start: bytes) -> tuple[int, int]:
    width, height = struct.unpack(">II", start[16:24])
    orientation = 1
    handle.seek(8)
    # To the end: tools that turn a picture without decoding it append the chunk.
    while len(head := handle.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            break
        if kind == b"eXIf":
            orientation = _exif_orientation(handle.read(min(length, 1 << 16))) or 1
            break
        handle.seek(length + 4, 1)
    return _turned((height, width), orientation)


def _webp_size_hw(handle: BinaryIO, start: bytes) -> tuple[int, int]:
    kind = start[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", start[26:30])
        return height & 0x3FFF, width & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack("<I", start[21:25])
        return ((bits >> 14) & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8X":
        size_hw = int.from_bytes(start[27:30], "little") + 1, int.from_bytes(start[24:27], "little") + 1
        return _turned(size_hw, _webp_orientation(handle, start) if start[20] & _WEBP_HAS_EXIF else 1)
    raise IndexError


def _webp_orientation(handle: BinaryIO, start: bytes) -> int:
    """Return the orientation of the first chunk ``EXIF`` inside the RIFF form; it may stand after the picture."""
    end = 8 + int(struct.unpack("<I", start[4:8])[0])
    handle.seek(12)
    while handle.tell() < end and len(head := handle.read(8)) == 8:
        kind, length = struct.unpack("<4sI", head)
        if kind == b"EXIF":
            return _exif_orientation(handle.read(min(length, 1 << 16))) or 1
        handle.seek(length + length % 2, 1)
    return 1


def _is_whole(data: bytes) -> bool:
    if data[:2] == b"\xff\xd8":
        return _jpeg_is_whole(data)
    if data[:8] == _PNG_SIGNATURE:
        return _png_is_whole(data)
    if data[:4] == b"RIFF":
        return len(data) >= 8 + int(struct.unpack_from("<I", data, 4)[0])
    return True  # BMP: OpenCV refuses a short one


def _jpeg_is_whole(data: bytes) -> bool:
    """Walk from marker to marker until the end of image, so that a thumbnail's own end marker does not count."""
    position = 2
    while (match := _JPEG_NEXT_MARKER.search(data, position)) is not None:
        position = match.start()
        marker = data[position + 1]
        if marker == 0xD9:
            return True
        position += 2
        if marker not in _JPEG_WITHOUT_LENGTH:
            position += int.from_bytes(data[position : position + 2], "big")
    return False


def _png_is_whole(data: bytes) -> bool:
    stream = BytesIO(data[8:])
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        body, checksum = stream.read(length), stream.read(4)
        if len(body) != length or zlib.crc32(kind + body).to_bytes(4, "big") != checksum:
            return False
        if kind == b"IEND":
            return True
    return False


def has_its_end(picture: Path) -> bool:
    """Say whether a JPEG or PNG has its end marker, which tells one that is cut off without decoding it.

    Bytes after the marker do no harm and are common. Other formats have none, and pass.
    """
    with picture.open("rb") as handle:
        end = _ENDS.get(handle.read(2))
        if end is None:
            return True
        size = handle.seek(0, os.SEEK_END)
        handle.seek(max(0, size - len(end)))
        if handle.read() == end:
            return True
        handle.seek(max(0, size - _TAIL_BYTES))
        return end in handle.read()
