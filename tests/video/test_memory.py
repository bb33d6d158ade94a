"""The memory curve: where it is read, and that it does not lie about what cannot be played."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from drivetl.video import memory
from drivetl.video.memory import main, memory_curve, resident_mib

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


def test_the_curve_has_a_point_for_every_so_many_frames_of_a_video_played_again(
    make_video: Callable[..., Path], bundle: Path
) -> None:
    video = make_video("short.mp4", [40, 120, 200] * 5)
    curve = memory_curve(video, bundle, frames=60, every=20)
    assert list(curve) == [20, 40, 60]
    assert all(20 < mib < 5000 for mib in curve.values())


def test_memory_that_is_kept_is_seen() -> None:
    before = resident_mib()
    kept = bytearray(b"x" * (64 << 20))
    assert resident_mib() - before > 60
    del kept


def test_growth_counts_from_the_first_reading(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "memory_curve", lambda *_, **__: {500: 200.0, 1000: 260.0, 1500: 230.0})
    monkeypatch.setattr(sys, "argv", ["memory", "a.mp4", "--model", "b", "--frames", "1500"])
    assert main() == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["growth_mib"] == 60.0


def test_a_video_that_is_not_there_is_one_sentence(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["memory", "nowhere.mp4", "--model", str(bundle), "--frames", "1000"])
    assert main() == 2
    assert "'nowhere.mp4' holds no frame that can be decoded" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["memory", "nowhere.mp4", "--model", str(bundle), "--frames", "10"])
    with pytest.raises(SystemExit):
        main()
    assert "two readings need at least 1000" in capsys.readouterr().err
