"""Structures written byte by byte from their standards."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from drivetl.containers import Container, inspect_container


def box(kind: bytes, body: bytes = b"", *, wide: bool = False) -> bytes:
    if wide:
        return struct.pack(">I4sQ", 1, kind, 16 + len(body)) + body
    return struct.pack(">I4s", 8 + len(body), kind) + body


def movie(time_scale: int, duration: int, *, version: int = 0) -> bytes:
    times = struct.pack(">IIII" if version == 0 else ">QQIQ", 0, 0, time_scale, duration)
    return box(b"moov", box(b"mvhd", bytes([version, 0, 0, 0]) + times + bytes(80)))


FTYP = box(b"ftyp", b"isom" + bytes(8))
MP4 = FTYP + movie(600, 900) + box(b"mdat", bytes(1000))


def look(tmp_path: Path, data: bytes) -> Container:
    path = tmp_path / "file"
    path.write_bytes(data)
    return inspect_container(path)


@pytest.mark.parametrize(
    ("data", "duration_s"),
    [
        (MP4, 1.5),
        (FTYP + box(b"mdat", bytes(1000), wide=True) + movie(1000, 250, version=1), 0.25),
        (FTYP + movie(600, 0) + box(b"moof", bytes(50)) + box(b"mdat", bytes(50)), None),
        # The last box may say "until the end of the file".
        (FTYP + movie(600, 900) + struct.pack(">I4s", 0, b"mdat") + bytes(1000), 1.5),
        # Some dash-cams append what is no box at all.
        (MP4 + b"\x7f\xff\xff\xffGPS " + bytes(100), 1.5),
    ],
)
def test_whole_mp4(tmp_path: Path, data: bytes, duration_s: float | None) -> None:
    found = look(tmp_path, data)
    assert (found.name, found.cut_off, found.has_index, found.duration_s) == ("MP4", False, True, duration_s)


@pytest.mark.parametrize("missing", [1, 500, 999])
def test_cut_mp4(tmp_path: Path, missing: int) -> None:
    found = look(tmp_path, MP4[:-missing])
    assert found.cut_off and found.has_index
    assert (found.expected_bytes, found.size_bytes) == (len(MP4), len(MP4) - missing)


def test_mp4_without_index(tmp_path: Path) -> None:
    found = look(tmp_path, (FTYP + box(b"mdat", bytes(1000)) + movie(600, 900))[:500])
    assert found.cut_off and not found.has_index


def test_matroska(tmp_path: Path) -> None:
    header = b"\x1a\x45\xdf\xa3\x84" + bytes(4) + b"\x18\x53\x80\x67"
    eight_byte_size = b"\x01" + (300).to_bytes(7, "big")
    two_byte_size = (0x4000 | 300).to_bytes(2, "big")
    for size in (eight_byte_size, two_byte_size):
        whole = header + size + bytes(300)
        assert not look(tmp_path, whole).cut_off
        assert look(tmp_path, whole[:-1]).expected_bytes == len(whole)
    # A live recording does not know its size.
    assert not look(tmp_path, header + b"\x01" + b"\xff" * 7 + bytes(100)).cut_off


def test_avi_in_two_parts(tmp_path: Path) -> None:
    part = b"RIFF" + struct.pack("<I", 101) + b"AVI " + bytes(97) + b"\0"  # odd sizes are padded
    more = b"RIFF" + struct.pack("<I", 50) + b"AVIX" + bytes(46)
    assert not look(tmp_path, part + more).cut_off
    assert look(tmp_path, (part + more)[:-7]).expected_bytes == len(part + more)


@pytest.mark.parametrize(("packet", "lead"), [(188, b""), (192, bytes(4))])
def test_transport_stream(tmp_path: Path, packet: int, lead: bytes) -> None:
    stream = (lead + b"\x47" + bytes(187)) * 5
    assert not look(tmp_path, stream).cut_off
    found = look(tmp_path, stream[:-100])
    assert (found.name, found.expected_bytes, found.cut_off) == ("MPEG-TS", 5 * packet, True)


def test_every_cut_is_survived(tmp_path: Path) -> None:
    for data in (MP4, b"\x1a\x45\xdf\xa3\x84" + bytes(4) + b"\x18\x53\x80\x67\x41\x2c", b"RIFF\x10\0\0\0AVI "):
        for length in range(min(len(data), 150)):
            assert look(tmp_path, data[:length]).expected_bytes >= length
