from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from drivetl.data.pictures import PictureError, decode_picture, decode_small_grey, picture_size_hw


def _tiff(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """Return by hand what EXIF is inside: TIFF header, one directory, one entry."""
    entry = struct.pack(f"{order}HHIHxx", 0x0112, kind, 1, orientation)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}IH", 8, 1) + entry + struct.pack(f"{order}I", 0)


def _encoded(ending: str, size_hw: tuple[int, int] = (40, 100)) -> bytes:
    return bytes(cv2.imencode(ending, np.zeros((*size_hw, 3), np.uint8))[1].tobytes())


def _jpeg(exif: bytes, before: bytes = b"") -> bytes:
    """Return a JPEG with EXIF in front of the first segment with that marker, by default of all."""
    data, segment = _encoded(".jpg"), b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif
    at = data.index(before) if before else 2
    return data[:at] + segment + data[at:]


def _png(exif: bytes, before: bytes = b"IDAT") -> bytes:
    data, chunk = _encoded(".png"), b"eXIf" + exif
    at = data.index(before) - 4
    return data[:at] + struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[at:]


def _webp(exif: bytes, *, flags: int = 8, picture_first: bool = True) -> bytes:
    """Return a WebP in the extended form (RFC 9649, 2.7), with an odd chunk between so that padding matters."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)

    head = chunk(b"VP8X", bytes([flags, 0, 0, 0]) + (99).to_bytes(3, "little") + (39).to_bytes(3, "little"))
    picture = _encoded(".webp")[12:]
    parts = [picture, chunk(b"XMP ", b"odd"), chunk(b"EXIF", exif)]
    form = b"WEBP" + head + b"".join(parts if picture_first else reversed(parts))
    return b"RIFF" + struct.pack("<I", len(form)) + form


@pytest.mark.parametrize("ending", ["jpg", "png", "bmp", "webp"])
@pytest.mark.parametrize("size_hw", [(37, 91), (1, 1), (300, 17)])
def test_size_from_the_header_is_what_opencv_decodes(tmp_path: Path, ending: str, size_hw: tuple[int, int]) -> None:
    path = tmp_path / f"picture.{ending}"
    cv2.imwrite(str(path), np.full((*size_hw, 3), 90, np.uint8))
    assert picture_size_hw(path) == size_hw == cv2.imread(str(path)).shape[:2]
    assert decode_picture(path).shape == (*size_hw, 3)


def test_a_bmp_with_the_header_of_os2(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 92, 3), np.uint8)  # a row of whole words
    header = b"BM" + struct.pack("<IHHIIHHHH", 26 + pixels.nbytes, 0, 0, 26, 12, 92, 37, 1, 24)
    path = tmp_path / "picture.bmp"
    path.write_bytes(header + pixels[::-1].tobytes())
    assert picture_size_hw(path) == (37, 92)
    assert np.array_equal(decode_picture(path), pixels)


@pytest.mark.parametrize("quality", [(cv2.IMWRITE_WEBP_QUALITY, 101), (cv2.IMWRITE_WEBP_QUALITY, 50)])
def test_both_kinds_of_webp(tmp_path: Path, quality: tuple[int, int]) -> None:
    path = tmp_path / "picture.webp"
    cv2.imwrite(str(path), np.zeros((33, 65, 3), np.uint8), quality)
    assert picture_size_hw(path) == (33, 65)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("made", [_jpeg, _png, _webp])
def test_exif_orientation_turns_the_size_as_opencv_does(
    tmp_path: Path, orientation: int, order: str, made: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "turned"
    path.write_bytes(made(_tiff(orientation, order)))
    assert picture_size_hw(path) == decode_picture(path).shape[:2]
    assert picture_size_hw(path) == ((100, 40) if orientation >= 5 else (40, 100))


@pytest.mark.parametrize(
    ("data", "turned"),
    [
        (_jpeg(_tiff(6), b"\xff\xc4"), True),  # after the header of the frame
        (_jpeg(_tiff(6), b"\xff\xda"), True),
        (_jpeg(_tiff(6), b"\xff\xd9"), False),  # after the scan
        (_jpeg(_tiff(6, kind=4)), True),
        (_jpeg(_tiff(6).replace(b"II*", b"II+")), False),
        (_png(_tiff(6), b"IEND"), True),  # where exiftool puts it
        (_png(b"Exif\0\0" + _tiff(6)), False),
        (_webp(_tiff(6), picture_first=False), True),
        (_webp(_tiff(6), flags=0), False),
        (_webp(b"Exif\0\0" + _tiff(6)), False),
    ],
    ids=lambda value: value[:4].hex() if isinstance(value, bytes) else str(value),
)
def test_unusual_places_of_exif_count_where_they_do_for_opencv(tmp_path: Path, data: bytes, turned: bool) -> None:
    path = tmp_path / "unusual"
    path.write_bytes(data)
    assert picture_size_hw(path) == decode_picture(path).shape[:2] == ((100, 40) if turned else (40, 100))


def test_of_two_orientations_the_first_counts(tmp_path: Path) -> None:
    path, data = tmp_path / "two.jpg", _jpeg(_tiff(6))
    path.write_bytes(data[:2] + _jpeg(_tiff(1))[2:38] + data[2:])
    assert picture_size_hw(path) == decode_picture(path).shape[:2] == (40, 100)


@pytest.mark.parametrize("flags", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]])
@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_truncated_jpeg_is_noticed_although_opencv_decodes_it(tmp_path: Path, flags: list[int], keep: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    _, encoded = cv2.imencode(".jpg", noise, flags)
    whole, cut = tmp_path / "whole.jpg", tmp_path / "cut.jpg"
    whole.write_bytes(encoded.tobytes())
    cut.write_bytes(encoded.tobytes()[: int(len(encoded) * keep)])
    assert decode_picture(whole).shape == (120, 160, 3)
    with pytest.raises(PictureError, match=r"cut\.jpg' ends") as caught:
        decode_picture(cut)
    assert caught.value.kind == "picture_truncated"


def test_an_embedded_end_marker_does_not_hide_that_the_picture_is_cut(tmp_path: Path) -> None:
    """Cameras embed a thumbnail, itself a whole JPEG, in the header."""
    _, small = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))
    _, large = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    segment = b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small.tobytes()
    data = large.tobytes()
    path = tmp_path / "thumbnail.jpg"
    path.write_bytes(data[:2] + segment + data[2:])
    assert decode_picture(path).shape == (64, 64, 3)
    path.write_bytes((data[:2] + segment + data[2:])[:-200])
    with pytest.raises(PictureError, match="ends before"):
        decode_picture(path)


def test_a_truncated_or_altered_png_is_noticed(tmp_path: Path) -> None:
    _, encoded = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8))
    data = encoded.tobytes()
    for name, content in {"cut.png": data[:-20], "bit.png": data[:500] + bytes([data[500] ^ 1]) + data[501:]}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PictureError):
            decode_picture(tmp_path / name)


def test_a_picture_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(PictureError, match="50000 x 50000 pixels; at most 100 million") as caught:
        picture_size_hw(path)
    assert caught.value.kind == "picture_too_large"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>not found</html>",
        b"\xff\xd8",
        b"\xff\xd8\xff\xe0\x00",
        b"\xff\xd8\xff\xe1\x00\x00" + b"x" * 100,  # a segment that is shorter than its own length
        b"RIFF\0\0\0\0WEBP",
    ],
)
def test_what_is_no_picture_is_one_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(PictureError, match=r"x\.jpg"):
        picture_size_hw(path)


def test_a_missing_picture_says_so(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="does not exist") as caught:
        picture_size_hw(tmp_path / "gone.jpg")
    assert caught.value.kind == "picture_missing"


@pytest.mark.parametrize("name", ["a\0b.jpg", "x" * 300 + ".jpg"])
def test_a_name_that_no_file_can_have_is_one_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(PictureError, match="cannot"):
        picture_size_hw(tmp_path / name)


def test_small_grey_is_a_quarter_unless_small_already(tmp_path: Path) -> None:
    for size_hw, expected in (((400, 640), (100, 160)), ((100, 640), (100, 640))):
        path = tmp_path / "p.jpg"
        cv2.imwrite(str(path), np.zeros((*size_hw, 3), np.uint8))
        assert decode_small_grey(path).shape == expected


@pytest.mark.parametrize("read", [picture_size_hw, decode_picture, decode_small_grey])
def test_a_pipe_is_not_waited_for(read: Callable[[Path], object], tmp_path: Path) -> None:
    pipe = tmp_path / "picture.jpg"
    os.mkfifo(pipe)
    with pytest.raises(PictureError, match="is no file"):
        read(pipe)
