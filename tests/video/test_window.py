from __future__ import annotations

import subprocess
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from drivetl.errors import VideoError
from drivetl.video.window import Window


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A screen that records what is shown, in place of OpenCV's window functions."""
    state = SimpleNamespace(shown=[], sizes=[], key=-1, visible=1.0, closed=0)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0))
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda name, image_bgr: state.shown.append((name, image_bgr.shape)))
    monkeypatch.setattr(cv2, "resizeWindow", lambda name, width, height: state.sizes.append((width, height)))
    monkeypatch.setattr(cv2, "waitKey", lambda _: state.key)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: state.visible)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: setattr(state, "closed", state.closed + 1))
    return state


def test_frames_are_shown_until_q(screen: SimpleNamespace) -> None:
    frame = np.zeros((4, 6, 3), np.uint8)
    with Window("road") as window:
        window.show(frame)
        assert not window.closed
        screen.key = ord("q")
        window.show(frame)
        assert window.closed
    assert screen.shown == [("road", (4, 6, 3))] * 2
    assert screen.closed == 1


@pytest.mark.parametrize(
    ("frame_wh", "window_wh"),
    [((960, 540), (960, 540)), ((1920, 1080), (1280, 720)), ((1080, 1920), (405, 720)), ((7680, 1), (1280, 1))],
)
def test_a_window_is_as_large_as_its_first_frame_and_then_as_its_user_likes(
    frame_wh: tuple[int, int], window_wh: tuple[int, int], screen: SimpleNamespace
) -> None:
    with Window("road") as window:
        window.show(np.zeros((*frame_wh[::-1], 3), np.uint8))
        window.show(np.zeros((4, 6, 3), np.uint8))
    assert screen.sizes == [window_wh]


def test_the_windows_own_button_closes_it(screen: SimpleNamespace) -> None:
    window = Window("road")
    screen.visible = 0.0
    window.show(np.zeros((4, 6, 3), np.uint8))
    assert window.closed


def test_a_display_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, **options: float) -> None:
        raise subprocess.TimeoutExpired("python", options["timeout"])

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(VideoError, match="--show cannot open a window"):
        Window("road")
