"""``drivetl report``: the page of a run."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drivetl.errors import ConfigError, quoted
from drivetl.verbs._console import JsonFlag, OverwriteFlag, Reporter
from drivetl.verbs._options import size_from

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drivetl.evaluate import Model
    from drivetl.report import RunPictures

__all__ = ["register"]

_NEEDED = ("zero_shot", "train", "adapted", "export", "verify", "bench", "video")
_PAIRS = 2
_CELLS = 12
_CELL_WIDTH_PX = 480
_CONFIDENCE = 0.25


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("report")(report)


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that drivetl run or drivetl demo made.")],
    out: Annotated[Path | None, typer.Option("--out", help="The page; default: RUN/page.html.")] = None,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Write the page of a run: one HTML file with its figures and pictures, which loads nothing from anywhere.

    Example: drivetl report runs/demo --overwrite
    """
    from drivetl.files import atomic_file
    from drivetl.report import render_page, run_page

    reporter = Reporter("report", json)
    target = out or run / "page.html"
    with reporter.working(), atomic_file(target, overwrite=overwrite) as temporary:
        recipe = _read(run / "recipe.json")
        stages = _stages(run)
        log = [json_module.loads(line) for line in _text(run / "train" / "training_log.jsonl").splitlines()]
        page = run_page(recipe, stages, log, _pictures(run, recipe, stages, reporter))
        temporary.write_text(render_page(page), encoding="utf-8")
    reporter.finish({"page": str(target), "bytes": target.stat().st_size}, [str(target)])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {quoted(path)}: {error.strerror}; is that the folder of a run?") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json_module.loads(_text(path))
    except ValueError as error:
        raise ConfigError(f"{quoted(path)} is damaged; carry out the run again") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{quoted(path)} is damaged; carry out the run again")
    return document


def _stages(run: Path) -> dict[str, Any]:
    """Return the JSON of every stage's verb that the run has kept."""
    documents = {path.stem: _read(path) for path in sorted(run.glob("*.json")) if path.name != "recipe.json"}
    stages = {name: document["result"] for name, document in documents.items() if "result" in document}
    if missing := [name for name in _NEEDED if name not in stages]:
        raise ConfigError(f"the run {quoted(run)} has not come as far as: {', '.join(missing)}; carry it out first")
    return stages


def _pictures(run: Path, recipe: dict[str, Any], stages: dict[str, Any], reporter: Reporter) -> RunPictures:
    from drivetl.report import RunPictures

    reporter.progress("page", 0, 3)
    training = _sheet(_labelled(run / "dataset", "train"))
    reporter.progress("page", 1, 3)
    pairs = list(_before_after(run, recipe, stages))
    reporter.progress("page", 2, 3)
    video = _sheet(_video_frames(run / "video.mp4", stages["video"]["frames_out"]))
    reporter.progress("page", 3, 3)
    return RunPictures(training, pairs, video)


def _labelled(dataset: Path, split: str) -> Iterator[NDArray[np.uint8]]:
    """Yield pictures of a split, evenly chosen, with their boxes drawn thinly and without words."""
    import cv2

    from drivetl.data import open_dataset
    from drivetl.data.pictures import decode_picture
    from drivetl.video.draw import class_colour_bgr

    samples = list(open_dataset(dataset).samples(split))
    count = min(_CELLS, len(samples))
    for index in (number * len(samples) // count for number in range(count)):
        image = decode_picture(samples[index].image)
        for box in samples[index].boxes:
            left, top, right, bottom = (round(v) for v in box.xyxy_px)
            cv2.rectangle(image, (left, top), (right - 1, bottom - 1), class_colour_bgr(box.class_name), 2)
        yield image


def _video_frames(video: Path, count: int) -> Iterator[NDArray[np.uint8]]:
    from drivetl.video.sources import open_source

    source = open_source(str(video))
    step = max(1, count // 6)
    try:
        for index, frame in enumerate(source.frames()):
            if index % step == step // 2:
                yield frame
    finally:
        source.close()


def _sheet(pictures: Iterator[NDArray[np.uint8]]) -> NDArray[np.uint8] | None:
    """Put pictures side by side, three in a row, all as large as the first."""
    import cv2
    import numpy as np

    cells: list[NDArray[np.uint8]] = []
    for image in pictures:
        height_px = cells[0].shape[0] if cells else max(1, round(image.shape[0] * _CELL_WIDTH_PX / image.shape[1]))
        cell = cv2.resize(image, (_CELL_WIDTH_PX, height_px), interpolation=cv2.INTER_AREA)
        cells.append(cell.astype(np.uint8, copy=False))
    if not cells:
        return None
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % 3)
    return np.vstack([np.hstack(cells[i : i + 3]) for i in range(0, len(cells), 3)]).astype(np.uint8, copy=False)


def _before_after(
    run: Path, recipe: dict[str, Any], stages: dict[str, Any]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8], str]]:
    """Yield pictures with the detections of both models: those with the most boxes, clear and in the weather."""
    from drivetl.data import open_dataset
    from drivetl.evaluate import open_model

    size_hw = size_from(recipe.get("input_size") or str(recipe["imgsz"]))
    # The stages measured these two; their commands name them.
    before = open_model(_model_of(run, "zero_shot"), size_hw=size_hw)
    after = open_model(_model_of(run, "adapted"), size_hw=size_hw)
    places = [(run / "dataset", "a held-out picture")]
    if "weather" in stages:
        places.append((run / "weather", f"{stages['weather']['condition']}, severity {stages['weather']['severity']}"))
    for folder, caption in places:
        samples = sorted(
            open_dataset(folder).samples(recipe["report_split"]), key=lambda s: (-len(s.boxes), s.image.name)
        )
        for sample in samples[:_PAIRS]:
            yield _detected(before, sample.image), _detected(after, sample.image), caption


def _model_of(run: Path, stage: str) -> str:
    command = _read(run / f"{stage}.json").get("command", [])
    if len(command) < 3:
        raise ConfigError(f"{quoted(run / f'{stage}.json')} is damaged; carry out the run again")
    return str(command[2])


def _detected(model: Model, picture: Path) -> NDArray[np.uint8]:
    """Return the picture with what the model detects on it, classes named as the dataset names them."""
    from drivetl.data.pictures import decode_picture
    from drivetl.runtime import decode
    from drivetl.video.draw import annotate

    image = decode_picture(picture)
    letterboxed, geometry = model.letterbox(image)
    found = decode(model.raw(model.to_input(letterboxed)), geometry, confidence=_CONFIDENCE)
    annotate(image, found, model.class_names)
    return image
