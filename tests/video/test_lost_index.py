"""Files that were cut off before their index, against what they were before."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drivetl.video.lost_index import restore_index

RATE = 30000 / 1001


def write(path: Path, count: int) -> bytes:
    """Frames of a few hundred bytes to a few thousand, with a key frame every twelfth."""
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), RATE, (96, 64))
    for index in range(count):
        frame = np.full((64, 96, 3), 5 * index, np.uint8)
        frame[: index % 5 * 12] = rng.integers(0, 256, 3)
        frame[:, 3 * (index % 30) :][:, :8] = rng.integers(0, 256, (64, 1, 3))
        writer.write(frame)
    writer.release()
    return path.read_bytes()


def decoded(path: Path) -> list[NDArray[np.uint8]]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    return [np.asarray(capture.retrieve()[1], np.uint8) for _ in iter(capture.grab, False)]


def sizes(data: bytes) -> list[int]:
    """What the index says of the frames."""
    at = data.rindex(b"stsz")
    (count,) = struct.unpack_from(">I", data, at + 12)
    return list(struct.unpack_from(f">{count}I", data, at + 16))


@pytest.mark.parametrize("ending", [".mp4", ".mov"])
@pytest.mark.parametrize("cut", ["in a frame", "before the index", "in the index"])
def test_what_was_written_plays_again(tmp_path: Path, ending: str, cut: str) -> None:
    whole = tmp_path / f"whole{ending}"
    data, model = write(whole, 50), write(tmp_path / f"model{ending}", 1)
    index = data.rindex(b"moov") - 4
    length = {"in a frame": index * 2 // 3, "before the index": index, "in the index": index + 300}[cut]
    broken = tmp_path / f"cut{ending}"
    content = bytearray(data[:length])
    if cut != "in the index":  # the length of what lies before is filled in together with the index
        content[data.index(b"mdat") - 4 : data.index(b"mdat")] = bytes(4)
    broken.write_bytes(content)
    assert decoded(broken) == []
    kept = restore_index(broken, model)
    assert kept >= 45 if cut != "in a frame" else 25 < kept < 40
    assert broken.stat().st_size <= length
    assert sizes(broken.read_bytes()) == sizes(data)[:kept]
    pictures = decoded(whole)
    assert len(pictures) == 50
    np.testing.assert_array_equal(decoded(broken), pictures[:kept])
    capture = cv2.VideoCapture(str(broken), cv2.CAP_FFMPEG)
    assert capture.get(cv2.CAP_PROP_FPS) == cv2.VideoCapture(str(whole), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FPS)
    capture.set(cv2.CAP_PROP_POS_FRAMES, 20)  # which needs the list of key frames
    np.testing.assert_array_equal(capture.read()[1], pictures[20])


def test_another_reader_finds_the_same(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is another reader")
    data, model = write(tmp_path / "whole.mp4", 50), write(tmp_path / "model.mp4", 1)
    (tmp_path / "cut.mp4").write_bytes(data[: data.rindex(b"moov") - 4])
    kept = restore_index(tmp_path / "cut.mp4", model)
    found = []
    for name in ("whole", "cut"):
        with av.open(str(tmp_path / f"{name}.mp4")) as source:
            packets = [packet for packet in source.demux(video=0) if packet.size]
            found.append([(packet.pts, packet.duration, packet.is_keyframe, bytes(packet)) for packet in packets])
            length_s = source.duration / 1e6
    assert found[1] == found[0][:kept]
    assert length_s == pytest.approx(kept / RATE, abs=0.002)


@pytest.mark.parametrize("share", [0.0, 0.02])
def test_where_no_frame_is_whole_nothing_changes(tmp_path: Path, share: float) -> None:
    data, model = write(tmp_path / "whole.mp4", 50), write(tmp_path / "model.mp4", 1)
    broken = tmp_path / "cut.mp4"
    for content, other in ((data[: 40 + int(share * len(data))], model), (data[:20000], b""), (b"", model)):
        broken.write_bytes(content)
        assert restore_index(broken, other) == 0 and broken.read_bytes() == content
