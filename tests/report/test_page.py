"""Pages, in a real browser: pictures load, the console stays empty, and nothing is asked of anybody."""

from __future__ import annotations

import base64
import importlib.util
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drivetl.report import Bars, Figure, Page, RunPictures, Section, Table, jpeg_uri, render_page, run_page

_SPEC = importlib.util.spec_from_file_location("drivetl_test_browser", Path(__file__).with_name("browser.py"))
assert _SPEC is not None and _SPEC.loader is not None
browser = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = browser
_SPEC.loader.exec_module(browser)


def picture(level: int = 90, size_hw: tuple[int, int] = (60, 100)) -> Any:
    return np.full((*size_hw, 3), level, np.uint8)


def page(**changes: Any) -> Page:
    section = Section(
        "Accuracy",
        ["A paragraph."],
        [Table(("class", "AP"), (("car", "0.5"), ("all", "0.4")), frozenset({1}))],
        [Bars("Bars:", (("one", 2.0, "2 ms"), ("two", 1.0, "1 ms")))],
        [Figure(jpeg_uri(picture()), "A picture.", "grey"), Figure(jpeg_uri(picture(200)), "Another.", "light")],
    )
    values = {"title": "A page", "lead": "What it is.", "highlights": [("0.5", "AP")], "sections": [section]}
    return Page(**{**values, **changes})


def test_a_picture_becomes_a_data_uri_and_is_only_ever_scaled_down() -> None:
    def size_of(uri: str) -> tuple[int, int]:
        data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
        height, width = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]
        return height, width

    assert size_of(jpeg_uri(picture())) == size_of(jpeg_uri(picture(), width_px=400)) == (60, 100)
    assert size_of(jpeg_uri(picture(), width_px=50)) == (30, 50)


def test_what_a_dataset_or_a_folder_is_called_cannot_become_markup() -> None:
    html = render_page(page(title="<script>alert(1)</script>", lead='" onload="x'))
    assert "<script" not in html and "&lt;script&gt;" in html
    assert "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\"" in html


def test_the_browser_loads_it_and_asks_nobody(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(render_page(page()), encoding="utf-8")
    seen = browser.visit(file)
    assert seen.title == "A page"
    assert seen.images == [[True, 100, 60, "grey"], [True, 100, 60, "light"]]
    assert seen.console == []
    assert seen.requests == [file.as_uri()]


def test_the_watch_on_the_browser_sees_what_it_should(tmp_path: Path) -> None:
    (tmp_path / "other.js").write_text("console.log('loaded')")
    file = tmp_path / "page.html"
    file.write_text("<img src='missing.png' alt='gone'><script src='other.js'></script><script>boom()</script>")
    seen = browser.visit(file)
    assert seen.images[0][1:] == [0, 0, "gone"]
    assert any("loaded" in line for line in seen.console) and any("boom" in line for line in seen.console)
    assert {url.rpartition("/")[2] for url in seen.requests} >= {"other.js", "missing.png"}


def figures(value: float) -> dict[str, Any]:
    per_class = {"car": {"boxes": 4, "map50_95": value}, "train": {"boxes": 0, "map50_95": None}}
    return {"images": 3, "boxes": 4, "map50_95": value, "map50": value, "per_class": per_class, "missing_classes": []}


def stages(**more: Any) -> dict[str, Any]:
    latency = dict.fromkeys(("p50", "p90", "p95", "p99", "max"), 12.3)
    train = {
        "epochs": 2,
        "optimiser_steps": 8,
        "seconds": 3.0,
        "threads": 2,
        "chosen_epoch": 2,
        "notes": ["Few steps."],
    }
    return {
        "zero_shot": figures(0.125),
        "adapted": figures(0.5),
        "train": {**train, "head_transfer": [{"target": "car", "sources": [], "kind": "none"}]},
        "export": {"precision": "fp32", "bytes": 2_000_000},
        "verify": {"passed": True, "pictures": 3, "max_abs_diff_scores": 1e-6, "max_abs_diff_px": 0.01, "matched": 1.0},
        "bench": {"provider": "cpu", "latency_ms": {"end_to_end": latency}},
        "video": {"frames_out": 5, "fps": 20.0},
        **more,
    }


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        ({}, "on cuda, this machine:"),
        ({"cpu": "EPYC", "gpu": None}, "on cuda, EPYC:"),
        ({"cpu": "EPYC", "gpu": {"name": "NVIDIA H100"}}, "on cuda, NVIDIA H100:"),
        ({"cpu": "EPYC", "gpu": {"name": None}}, "on cuda, EPYC:"),
    ],
)
def test_a_latency_is_that_of_the_gpu_where_it_ran_on_one(machine: dict[str, Any], said: str) -> None:
    recipe = {"name": "fog", "started_from": "yolo11n.pt", "data": {"format": "voc"}, "imgsz": 640}
    bench = {**stages()["bench"], "provider": "cuda", "machine": machine}
    assert f"Latency in ms {said}" in render_page(run_page(recipe, stages(bench=bench), [], RunPictures()))


def test_the_page_of_a_run_gives_its_figures_and_leaves_out_what_there_is_not() -> None:
    recipe = {"name": "fog", "started_from": "yolo11n.pt", "data": {"format": "voc"}, "imgsz": 640}
    log = [{"epoch": 1, "metrics/mAP50-95(B)": 0.25}, {"epoch": 2, "metrics/mAP50-95(B)": None}]
    html = render_page(run_page(recipe, stages(), log, RunPictures()))
    for text in (
        "yolo11n on voc",
        "0.125 → 0.500",
        "12.3 ms",
        "verified",
        "Few steps.",
        "epoch 1",
        "yolo11n as published",
    ):
        assert text in html
    for text in ("severity", "epoch 2:", "<img", "train</td><td>0</td>"):
        assert text not in html
    verify = {**stages()["verify"], "passed": False}
    assert "NOT verified" in render_page(run_page(recipe, stages(verify=verify), log, RunPictures()))


def test_the_page_counts_the_pictures_of_the_dataset_that_the_recipe_used() -> None:
    recipe = {"name": "fog", "started_from": "yolo11n.pt", "imgsz": 640}
    more = {"import": {"splits": {"train": 7, "val": 2}}, "split": {"splits": {"train": 5, "val": 4}}}
    for selection, counts in ((0.2, "5 train, 4 val"), (0.0, "7 train, 2 val")):
        document = {**recipe, "data": {"format": "voc", "selection": selection}}
        assert counts in render_page(run_page(document, stages(**more), [], RunPictures()))


def test_the_page_says_what_the_fallback_was_compared_with() -> None:
    fallback = {"weights": "yolov3-tiny-coco", "source": {"preset": "source-city"}}
    recipe = {
        "name": "demo",
        "started_from": "yolov3-tiny-coco.weights",
        "fell_back": True,
        "fallback": fallback,
        "scenes": {"preset": "target-city"},
        "imgsz": 320,
    }
    weather = {"condition": "fog", "severity": 3}
    more = {"weather": weather, "zero_shot_weather": figures(0.1), "adapted_weather": figures(0.375)}
    pictures = RunPictures(picture(), [(picture(), picture(), "a held-out picture")], picture())
    html = render_page(run_page(recipe, stages(**more), [], pictures))
    assert "yolov3-tiny-coco trained on source-city" in html
    assert "0.100 → 0.375" in html and "fog, severity 3" in html
    assert html.count("<img") == 4


@pytest.mark.parametrize("rows", [(), (("none", 0.0, "0"),)])
def test_bars_without_length_do_not_divide_by_zero(rows: Any) -> None:
    assert Bars("", rows).scale == 1.0
