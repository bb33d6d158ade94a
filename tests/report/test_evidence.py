"""The page of evidence: what it says of each stage, what it says is missing, and how it looks at three sizes."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from drivetl.cli import app
from drivetl.errors import ConfigError, OutputError
from drivetl.evaluate.anatomy import anatomy
from drivetl.evaluate.benchmark import synthetic
from drivetl.report import RunPictures, Unfinished, render_page, run_page
from drivetl.report.charts import Line, columns, heat, intervals, lines
from drivetl.report.evidence import _confusion, conditions_section, latency_drawing, overfitting, weight_section
from drivetl.report.learning import learning_section
from drivetl.report.verdicts import verdicts
from drivetl.report.words import evidence_document, markdown, model_card

_SPEC = importlib.util.spec_from_file_location("drivetl_test_browser", Path(__file__).with_name("browser.py"))
assert _SPEC is not None and _SPEC.loader is not None
browser = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = browser
_SPEC.loader.exec_module(browser)

EVIL = "<img src=x onerror=alert(1)>"
RECIPE = {"name": "fog", "started_from": "yolo11n.pt", "data": {"format": "voc", "card": "dawn"}, "imgsz": 640}
CURVE = [
    {"share": 0.0, "target": 0.30, "retention": 0.50, "chosen": False},
    {"share": 0.5, "target": 0.36, "retention": 0.485, "chosen": True},
    {"share": 1.0, "target": 0.35, "retention": 0.35, "chosen": False},
]


def slice_of(by: str, value: str, ap: float | None, boxes: int = 50, small: str | None = None) -> dict[str, Any]:
    span = None if ap is None else [max(ap - 0.1, 0), min(ap + 0.1, 1)]
    difference = None if ap is None else ap - 0.4
    chance = None if ap is None else 0.01
    return {
        "by": [by], "value": [value], "pictures": boxes, "groups": boxes, "boxes": boxes, "map50_95": ap, "map50": ap,
        "interval": span, "difference": difference, "difference_interval": None, "p_value": chance, "too_small": small,
    }  # fmt: skip


def adapted() -> dict[str, Any]:
    truth, found, _, _ = synthetic(30, np.random.default_rng(0))
    names = (EVIL, "truck", "bus", "person", "bicycle", "motorcycle")
    single = [
        slice_of("weather", "fog", 0.2),
        slice_of("weather", "clear", 0.5),
        slice_of("weather", "snow", 0.1, 3, "3 boxes; at least 20 are needed to say something."),
        slice_of("weather", "rain", None, 0, "It holds no box."),
    ]
    pair = {**slice_of("weather", "fog", 0.15), "by": ["weather", "scene"], "value": ["fog", EVIL]}
    slices = {"single": single, "pairs": [pair], "dimensions": [], "weakest": single[0], "weakest_boxes": None}
    per_class = {name: {"boxes": 9 * (name != "bus"), "map50_95": 0.4 if name != "bus" else None} for name in names}
    return {
        "images": 30, "boxes": 45, "map50_95": 0.45, "map50": 0.6, "per_class": per_class, "missing_classes": [],
        "slices": slices, "errors": anatomy(truth, found, names, recall=0.5), "split": "test",
        "dataset_fingerprint": "f" * 64,
    }  # fmt: skip


def stages() -> dict[str, Any]:
    after = adapted()
    latency = dict.fromkeys(("p50", "p90", "p95", "p99", "max"), 12.3)
    train = {"epochs": 4, "optimiser_steps": 8, "seconds": 3.0, "threads": 2, "chosen_epoch": 2, "notes": []}
    difference = {"difference": 0.05, "p_value": 0.012, "verdict": "better"}
    parity = {"passed": True, "pictures": 3, "max_abs_diff_scores": 1e-6, "max_abs_diff_px": 0.01, "matched": 1.0}
    grid = {"map50_95": 0.3, "severities": {str(level): {"map50_95": 0.5 - 0.08 * level} for level in range(1, 6)}}
    after |= {"conditions": {"fog": grid, "rain": {**grid, "map50_95": 0.2}}, "clean": 0.45, "mpc": 0.25, "rpc": 0.55}
    return {
        "zero_shot": {key: after[key] for key in ("images", "boxes", "map50", "per_class", "missing_classes")}
        | {"map50_95": 0.4},
        "adapted": after,
        "compare": {"headline": {"map50_95": difference}},
        "train": {**train, "head_transfer": [{"target": EVIL, "sources": [], "kind": "none"}]},
        "export": {"precision": "fp32", "bytes": 2_000_000},
        "verify": parity,
        "bench": {
            "provider": "cpu", "latency_ms": {"end_to_end": latency}, "budget_ms": 20.0, "passed": True,
            "histogram": {"edges_ms": [10, 12, 14, 16], "counts": [5, 20, 3]},
        },
        "check": {"ok": True},
    }  # fmt: skip


def log(val: tuple[float, ...] = (3.0, 2.5, 2.4, 2.39)) -> list[dict[str, Any]]:
    return [
        {"epoch": n + 1, "metrics/mAP50-95(B)": 0.3 + 0.01 * n}
        | {f"train/{part}_loss": 1.0 - 0.1 * n for part in ("box", "cls", "dfl")}
        | {f"val/{part}_loss": value / 3 for part in ("box", "cls", "dfl")}
        for n, value in enumerate(val)
    ]


def learning_curve() -> dict[str, Any]:
    def point(pictures: int, ap: float, gain: float | None) -> dict[str, Any]:
        ends = {
            "interval": [ap - 0.05, ap + 0.05],
            "gain_interval": None if gain is None else [gain - 0.02, gain + 0.02],
        }
        return {"pictures": pictures, "map50_95": ap, "gain": gain} | ends

    law = {"formula": "map50_95 = c - a * pictures ** -b", "a": 0.4, "b": 0.5, "c": 0.44, "scatter": 0.01}
    points = [point(0, 0.30, None), point(10, 0.31, 0.01), point(25, 0.36, 0.06), point(100, 0.40, 0.10)]
    ahead = [point(200, 0.412, 0.012), point(400, 0.42, 0.02)]
    return {
        "points": points, "law": law, "extrapolation": ahead, "split": "test", "test_pictures": 60, "groups": 41,
        "notes": [f"Each point is one training with one seed. {EVIL}"],
    }  # fmt: skip


def whole_page() -> Any:
    records = {name: {"command": ["drivetl", name], "result": result} for name, result in stages().items()}
    picture = np.full((180, 320, 3), 90, np.uint8)
    pictures = RunPictures(picture, [], None, [(picture, f"{EVIL} (a.jpg)")], [(picture, "car at 0.90, background")])
    return run_page(
        RECIPE, stages(), log(), pictures, records=records, unfinished=Unfinished(("video",)), weight_curve=CURVE,
        learning_curve=learning_curve(),
    )  # fmt: skip


@pytest.mark.parametrize(("width", "media", "scheme"), [(390, "screen", "dark"), (1280, "screen", "light"),
                                                        (794, "print", "light")])  # fmt: skip
def test_the_page_fits_and_loads_at_every_size(tmp_path: Path, width: int, media: str, scheme: str) -> None:
    file = tmp_path / "page.html"
    file.write_text(render_page(whole_page()), encoding="utf-8")
    assert file.stat().st_size < 15e6
    seen = browser.visit(file, tmp_path / "shot.png", width, media=media, scheme=scheme)
    assert seen.console == [] and seen.requests == [file.as_uri()]
    assert seen.images and all(loaded and across > 0 for loaded, across, *_ in seen.images)
    assert seen.content_width_px <= width, "nothing sticks out at the side"
    assert seen.load_ms < 2000
    assert (tmp_path / "shot.png").stat().st_size > 10_000


def test_the_page_says_what_there_is_and_what_there_is_not() -> None:
    html = render_page(whole_page())
    for text in (
        "not come as far as: video",
        "Weakest condition: weather fog, mAP50-95 0.200 (0.100 to 0.300), surely below",
        "Without a box, so that nothing can be said: weather rain",
        "+0.050 mAP50-95, p 0.012",
        "97% of the accuracy is kept",
        "within the budget of 20 ms",
        "recall 0.5: threshold",
        "rPC 55.0%",
        "Worst misses",
        "drivetl adapted",
        "none (zero-shot)",
        "200, expected",
        "+0.060 (+0.040 to +0.080)",
    ):
        assert text in html, text
    assert html.count("<svg") == 10
    assert EVIL not in html and "&lt;img src=x" in html


def test_what_is_alike_on_all_pictures_has_no_row() -> None:
    slices = adapted()["slices"]
    slices["single"].append(slice_of("timeofday", "daytime", 0.4))
    slices["dimensions"] = [
        {"name": "timeofday", "of": "pictures", "values": ["daytime"], "note": "Missing on 3 of 60 pictures."},
        {"name": "weather", "of": "pictures", "values": ["fog", "clear"], "note": "Missing on 5 of 60 pictures."},
    ]
    section = conditions_section(slices, [])
    assert "Too much alike to compare: timeofday daytime." in section.paragraphs
    assert "weather: Missing on 5 of 60 pictures." in section.paragraphs
    assert not any("Missing on 3" in text for text in section.paragraphs)
    assert "timeofday" not in section.drawings[0].svg and "weather" in section.drawings[0].svg


def test_the_grid_of_confusions_shows_all_that_is_taken_for_something_else() -> None:
    """Class c0 has 100 boxes: 40 found, 30 taken for the unlabelled c20, 2 each for five more, 20 missed."""
    classes = [f"c{i}" for i in range(26)]
    table = [[0] * 27 for _ in range(27)]
    for i in range(14):
        table[i][i] = 40 - i
    table[0][20], table[0][26] = 30, 20
    for j in range(21, 26):
        table[0][j] = 2
    drawing = _confusion({"classes": classes, "table": table})
    row = [float(text) for text in re.findall(r">(\d\.\d\d)<", drawing.svg)]
    assert row[:7] == [0.4, 0.3, 0.02, 0.02, 0.02, 0.04, 0.2]
    assert ">c20<" in drawing.svg and ">other<" in drawing.svg and ">c11<" in drawing.svg and ">c12<" not in drawing.svg
    assert "Left out: 2 labelled classes with fewer boxes. Other: 2 more classes." in drawing.caption
    small = _confusion({"classes": ["a", "b"], "table": [[3, 0, 1], [0, 2, 0], [1, 1, 0]]})
    assert ">other<" not in small.svg and "Left out" not in small.caption and "Other" not in small.caption


def test_conditions_that_are_not_drawn_are_counted() -> None:
    slices = adapted()["slices"]
    slices["single"] = [slice_of("town", f"t{n}", 0.4) for n in range(43)]
    drawing = conditions_section(slices, []).drawings[0]
    assert "3 more rows are not drawn." in drawing.caption and "t42" not in drawing.svg


def test_verdicts_follow_the_figures() -> None:
    def marks(**changes: Any) -> dict[str, str]:
        found = verdicts({**stages(), **changes}, log(), CURVE)
        return {sentence.split(" ")[0]: mark for mark, sentence in found}

    assert set(marks().values()) == {"good", "bad"}
    worse = {"headline": {"map50_95": {"difference": -0.05, "p_value": 0.01, "verdict": "worse"}}}
    assert marks(compare=worse)["On"] == "bad"
    unsure = {"headline": {"map50_95": {"difference": 0.01, "p_value": 0.4, "verdict": "cannot tell"}}}
    assert marks(compare=unsure)["On"] == "open"
    assert marks(bench={**stages()["bench"], "passed": False})["Latency:"] == "bad"
    assert marks(verify={**stages()["verify"], "passed": False})["The"] == "bad"
    blind = {**stages()["zero_shot"], "missing_classes": list(stages()["zero_shot"]["per_class"])}
    # It found nothing, so the comparison calls the adapted model better; but nothing was compared.
    assert marks(zero_shot=blind)["Before,"] == "open" and "On" not in marks(zero_shot=blind)
    assert verdicts({}, [], []) == []


def test_overfitting_is_told_from_the_losses() -> None:
    assert "No sign" in overfitting(log((3.0, 2.5, 2.4, 2.39)))
    assert "lowest after epoch 2 and has risen" in overfitting(log((3.0, 2.5, 2.7, 3.0)))
    assert "Not finished" in overfitting(log((3.0, 2.6, 2.3, 2.0)))
    assert "Too few" in overfitting(log((3.0, 2.5)))


def test_charts_have_their_points_and_escape_their_words() -> None:
    drawn = lines([Line(EVIL, [(0, 0), (1, 1)], dots=True), Line("", [])], x="<x>", y="y", mark=(0.5, "chosen"))
    assert drawn.count("<circle") == 2 and drawn.count("<polyline") == 1 and "chosen" in drawn
    assert "<img" not in drawn and "&lt;x&gt;" in drawn
    assert columns([0, 1, 2], [3, 0], x="ms", y="frames", mark=5).count("<rect") == 2
    assert columns([1, 1], [0], x="ms", y="frames").count("<rect") == 1
    rows = [("a", 0.5, (0.4, 0.6), "9 boxes", False), ("b", 0.2, None, "1 box", True)]
    assert intervals(rows, x="AP").count('class="span') == 1
    assert heat(["a"], ["b", "c"], [[0.5, None]]).count("<rect") == 1
    names = [*"abcdefg", "motorcycle", "traffic light", "missed"]
    assert all(f">{word}<" in heat(["a"], names, [[0.5] * 10]) for word in ("motorcycle", "traffic", "light"))
    assert lines([], x="x", y="y").count("<polyline") == 0
    assert latency_drawing({}) is None
    assert "chosen" in weight_section(CURVE).drawings[0].svg


def test_the_learning_curve_shows_points_law_and_what_to_expect() -> None:
    drawn = learning_section(learning_curve()).drawings[0].svg
    assert drawn.count("<circle") == 5, "four measured numbers and the double of the largest"
    assert drawn.count('class="span a"') == 4 and drawn.count('class="span b"') == 1
    assert "measured up to here" in drawn and drawn.count('class="line faint" points') == 1
    short = {**learning_curve(), "law": None, "extrapolation": []}
    drawn = learning_section(short).drawings[0].svg
    assert drawn.count("<circle") == 4 and "measured up to here" not in drawn and "faint" not in drawn


def test_a_hiccup_or_a_budget_far_away_does_not_squeeze_the_histogram() -> None:
    histogram = {"edges_ms": [10.0, 11.0, 12.0, 90.0], "counts": [50, 48, 2]}
    found = latency_drawing({"histogram": histogram, "budget_ms": 500.0})
    assert found is not None and found.svg.count("<rect") == 2 and 'class="mark"' not in found.svg
    assert found.caption.startswith("Latency of 98 frames; 2 more, up to 90.0 ms, are not drawn; the budget of 500 ms")
    found = latency_drawing({"histogram": {"edges_ms": [10.0, 11.0, 12.0], "counts": [50, 48]}, "budget_ms": 8.0})
    assert found is not None and found.svg.count('class="mark"') == 1 and 'x1="-' not in found.svg


def test_a_latency_of_a_disturbed_machine_is_called_one() -> None:
    def page(cores: float | None) -> str:
        found = stages()
        found["bench"]["load"] = {"other_programs_cores": cores}
        found["bench"]["latency_ms"]["end_to_end"] |= {"p90": 11.0, "p95": 12.0}
        found |= {
            "verify": {
                "passed": True,
                "pictures": 3,
                "max_abs_diff_scores": 1e-6,
                "max_abs_diff_px": 0.0,
                "matched": 1,
            },
            "export": {"precision": "fp32", "bytes": 10},
        }
        return render_page(run_page(RECIPE, found, log(), RunPictures()))

    busy = page(1.6)
    assert busy.count("Other programs kept 1.6 cores busy meanwhile: these are figures of a disturbed machine.") == 2
    assert "median, on a disturbed machine" in busy
    calm = page(0.05)
    assert "Other programs kept 0.05 cores busy meanwhile." in calm and "disturbed" not in calm
    assert "Other programs" not in page(None)


def test_markdown_json_and_card_say_the_same() -> None:
    page = whole_page()
    text = markdown(page)
    assert "## What goes wrong" in text and "| weather fog and scene &lt;img" in text and EVIL not in text
    document = evidence_document(page, stages(), Unfinished(("video",)))
    assert document["weakest"]["value"] == ["fog"] and document["missing"] == ["video"]
    assert json.loads(json.dumps(document)) == document
    card = model_card(RECIPE, stages(), page)
    for part in ("Intended use", "weather fog: mAP50-95 0.200 on 50 boxes", "weather snow: 3 boxes", "bus", "f" * 64):
        assert part in card, part
    assert EVIL not in card
    assert "none with enough boxes" in model_card(RECIPE, {}, page)


def test_a_bench_of_few_frames_is_judged_by_its_slowest_frame() -> None:
    found = stages()
    found["bench"]["latency_ms"]["end_to_end"].update(p99=None, max=45.6)
    sentences = [sentence for _, sentence in verdicts(found, log(), CURVE)]
    assert any("slowest frame 45.6 ms" in sentence for sentence in sentences)


def test_the_verb_writes_the_page_of_a_training_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "result.json").write_text(json.dumps(stages()["train"]))
    (run / "weight_curve.json").write_text(json.dumps({"curve": CURVE}))
    (run / "training_log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in log()))
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        CliRunner().invoke(app, ["report", str(run)], catch_exceptions=False)
    (run / "config.yaml").write_text(json.dumps({"train": {"weights": "yolo11n", "data": f"data/{EVIL}"}}))
    done = CliRunner().invoke(app, ["report", str(run), "--json"], catch_exceptions=False)
    document = json.loads(done.stdout)
    page = (run / "page.html").read_text()
    assert done.exit_code == 0 and document["bytes"] == (run / "page.html").stat().st_size and document["verdicts"]
    assert "share of the adapted weights" in page and "yolo11n adapted to" in page and EVIL not in page
    assert page.count("<svg") >= 2
    with pytest.raises(OutputError, match="exists"):
        CliRunner().invoke(app, ["report", str(run)], catch_exceptions=False)


def test_the_verb_writes_the_page_of_an_unfinished_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.json").write_text(json.dumps(RECIPE))
    with pytest.raises(ConfigError, match="first stage"):
        CliRunner().invoke(app, ["report", str(run)], catch_exceptions=False)
    assert not (run / "page.html").exists()
    record = {"command": ["drivetl", "evaluate", "m.pt"], "result": {**stages()["zero_shot"]}}
    (run / "zero_shot.json").write_text(json.dumps(record))
    done = CliRunner().invoke(app, ["report", str(run), "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert document["missing"] == ["train", "adapted", "export", "verify", "bench", "video"]
    assert "train, adapted, export" in (run / "page.html").read_text()
    assert {path.name for path in run.iterdir()} >= {"page.html", "evidence.md", "evidence.json", "model_card.md"}
    # A recipe names the page and means the same.
    named = CliRunner().invoke(app, ["report", str(run), "--out", str(run / "page.html"), "--overwrite", "--json"])
    assert {key: json.loads(named.stdout)[key] for key in ("markdown", "json", "model_card")} == {
        key: document[key] for key in ("markdown", "json", "model_card")
    }
    (run / "train").mkdir()
    (run / "train" / "weight_curve.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds no curve of points"):
        CliRunner().invoke(app, ["report", str(run), "--overwrite"], catch_exceptions=False)
    (run / "train" / "weight_curve.json").unlink()
    (run / "train" / "learning_curve.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds no learning curve: it lacks extrapolation, groups"):
        CliRunner().invoke(app, ["report", str(run), "--overwrite"], catch_exceptions=False)
    (run / "train" / "learning_curve.json").write_text(json.dumps(learning_curve()))
    CliRunner().invoke(app, ["report", str(run), "--overwrite"], catch_exceptions=False)
    assert "How much labelling is enough" in (run / "page.html").read_text()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("recipe.json", "{}", r"recipe\.json' is damaged: it lacks name, started_from, imgsz, scenes or data"),
        ("recipe.json", json.dumps({**RECIPE, "data": [1]}), "it lacks scenes or data"),
        ("recipe.json", json.dumps({**RECIPE, "fell_back": True}), "it lacks fallback"),
        ("zero_shot.json", '{"result": [1]}', r"zero_shot\.json' is damaged"),
        ("zero_shot.json", '{"result": {}, "command": null}', r"zero_shot\.json' is damaged"),
        ("compare.json", '{"result": {"notes": []}}', r"compare\.json' lacks 'headline': it is damaged, or another"),
        ("train/training_log.jsonl", '{"epoch": 1}\nnull\n', r"training_log\.jsonl', line 2, is no line of a training"),
    ],
)
def test_damaged_files_of_a_run_are_named(tmp_path: Path, file: str, text: str, message: str) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE))
    (tmp_path / "zero_shot.json").write_text(json.dumps({"command": ["drivetl"], "result": {**stages()["zero_shot"]}}))
    (tmp_path / "train").mkdir()
    (tmp_path / file).write_text(text)
    with pytest.raises(ConfigError, match=message):
        CliRunner().invoke(app, ["report", str(tmp_path)], catch_exceptions=False)
    assert not (tmp_path / "page.html").exists()


def test_a_run_that_stopped_before_its_last_figures_has_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, kept = tmp_path / "run", stages()
    run.mkdir()
    (run / "recipe.json").write_text(json.dumps(RECIPE))
    kept = {name: kept[name] for name in ("zero_shot", "train", "adapted")}
    kept |= {"weather": {"condition": "fog", "severity": 3}, "zero_shot_weather": kept["zero_shot"]}
    monkeypatch.setattr("drivetl.verbs.report.run_pictures", lambda *_: RunPictures())
    for name, result in kept.items():
        (run / f"{name}.json").write_text(json.dumps({"command": ["drivetl"], "result": result}))
    document = json.loads(CliRunner().invoke(app, ["report", str(run), "--json"], catch_exceptions=False).stdout)
    assert document["missing"] == ["export", "verify", "bench", "video", "adapted_weather"]
    page = (run / "page.html").read_text()
    assert "was taken, the last one." in page and "chosen on the val pictures" not in page
    with pytest.raises(ConfigError, match="is that the folder of a run"):
        CliRunner().invoke(app, ["report", str(tmp_path / "typo")], catch_exceptions=False)
    assert not (tmp_path / "typo").exists()


def test_a_page_elsewhere_has_its_own_evidence_and_replaces_nothing_unasked(tmp_path: Path) -> None:
    run, docs = tmp_path / "run", tmp_path / "docs"
    run.mkdir()
    docs.mkdir()
    (run / "recipe.json").write_text(json.dumps(RECIPE))
    (run / "zero_shot.json").write_text(json.dumps({"command": ["drivetl"], "result": {**stages()["zero_shot"]}}))
    (docs / "model_card.md").write_text("by hand")
    command = ["report", str(run), "--out", str(docs / "fog.html")]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    names = {"fog.html", "fog.evidence.md", "fog.evidence.json", "fog.model_card.md", "model_card.md"}
    assert {path.name for path in docs.iterdir()} == names
    assert (docs / "model_card.md").read_text() == "by hand"
    (docs / "fog.html").unlink()
    (docs / "fog.evidence.md").write_text("by hand too")
    with pytest.raises(OutputError, match=r"fog\.evidence\.md.*exists; pass --overwrite"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert (docs / "fog.evidence.md").read_text() == "by hand too"
    assert not (docs / "fog.html").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [("\\[x](javascript:a)", "\\\\\\[x](javascript:a)"), ("`a` | <b> *c*", "\\`a\\` \\| &lt;b> \\*c\\*")],
)
def test_markdown_takes_words_as_words(words: str, expected: str) -> None:
    page = run_page(RECIPE, stages(), log(), RunPictures())
    assert expected in markdown(replace(page, lead=words))


def test_a_comparison_has_no_page_and_says_what_there_is_to_look_at(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({"kind": "comparison", "name": "arms"}))
    (tmp_path / "import_a.json").write_text(json.dumps({"key": "k", "result": {}}))
    with pytest.raises(ConfigError, match=r"comparison, which has no page; look at comparison\.png .* the summary"):
        CliRunner().invoke(app, ["report", str(tmp_path)], catch_exceptions=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["import_a.json", "recipe.json"]
