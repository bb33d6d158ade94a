from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from drivetl.runtime import Detector
from drivetl.video import Around, Model, Outputs, VideoSettings, run_video
from drivetl.video.jpeg import JPEG_MOST_PX, jpeg_bytes
from drivetl.video.server import LivePage


def decoded(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize("size_hw", [(1, JPEG_MOST_PX + 1), (70_000, 3), (40, 66_000)])
def test_a_picture_longer_than_the_format_allows_is_scaled_down(size_hw: tuple[int, int]) -> None:
    picture = np.full((*size_hw, 3), 90, np.uint8)
    picture[:, size_hw[1] // 2 :] = 200
    found = decoded(jpeg_bytes(picture, 92))
    assert max(found.shape[:2]) == JPEG_MOST_PX
    scale = JPEG_MOST_PX / max(size_hw)
    assert found.shape[:2] == tuple(max(1, round(side * scale)) for side in size_hw)
    if size_hw[1] > 100:
        assert abs(int(found[0, 0, 0]) - 90) < 4 and abs(int(found[-1, -1, 0]) - 200) < 4


def test_others_keep_their_size() -> None:
    for size_hw in ((1, 1), (48, 64), (2, JPEG_MOST_PX)):
        assert decoded(jpeg_bytes(np.zeros((*size_hw, 3), np.uint8), 80)).shape[:2] == size_hw
    assert decoded(jpeg_bytes(np.zeros((10, 100, 3), np.uint8), 80, most_px=50)).shape[:2] == (5, 50)


def test_two_models_beside_each_other_may_be_wider_than_a_still_can_be(
    tmp_path: Path, detector: Detector, grey: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "wide.png"), grey(200, (33_000, 16)))
    monkeypatch.setattr("drivetl.video.server._FAREWELL_S", 0.0)
    with LivePage(port=0) as page:
        models = [Model(detector, "one"), Model(detector, "other")]
        plain, around = VideoSettings(track=False), Around(page=page)
        result = run_video(str(folder), models, Outputs(stills=tmp_path / "stills"), plain, around)
        number, jpeg = page.next_jpeg(0)
    assert number == 1 and decoded(jpeg).shape[:2] == (4, 16_384)
    assert decoded(result.stills[0].read_bytes()).shape[:2] == (16, JPEG_MOST_PX)
