"""Contact sheets are written whole, or refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from drivetl.errors import OutputError
from drivetl.sheet_file import save_sheet


@pytest.mark.parametrize("ending", ["jpg", "jpeg", "png", "webp", "PNG"])
def test_a_sheet_comes_back(tmp_path: Path, ending: str) -> None:
    save_sheet(np.full((30, 50, 3), 90, np.uint8), tmp_path / f"a.{ending}")
    assert cv2.imread(str(tmp_path / f"a.{ending}")).shape == (30, 50, 3)


@pytest.mark.parametrize(("size_hw", "ending"), [((70_000, 8), "jpg"), ((8, 20_000), "webp")])
@pytest.mark.parametrize("limit_bytes", [None, 10])
def test_a_sheet_too_large_for_its_format_is_one_error(
    tmp_path: Path, size_hw: tuple[int, int], ending: str, limit_bytes: int | None
) -> None:
    sheet = np.zeros((*size_hw, 3), np.uint8)
    with pytest.raises(
        OutputError, match=rf"cannot encode the sheet of {size_hw[1]} x .* as 'a\.{ending}'.*; use \.png"
    ):
        save_sheet(sheet, tmp_path / f"a.{ending}", limit_bytes=limit_bytes)
    assert list(tmp_path.iterdir()) == []
    save_sheet(sheet, tmp_path / "a.png")


def test_what_stands_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("mine")
    with pytest.raises(OutputError, match="--overwrite"):
        save_sheet(np.zeros((8, 8, 3), np.uint8), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_text() == "mine"
