"""The pictures of a run's page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl.errors import ConfigError, quoted
from drivetl.progress import Progress
from drivetl.verbs._options import size_from

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drivetl.evaluate import Model
    from drivetl.report import RunPictures

__all__ = ["run_pictures"]

_PAIRS = 2
_CELLS = 12
_WORST = 6
_CELL_WIDTH_PX = 480
_CONFIDENCE = 0.25


def run_pictures(run: Path, recipe: dict[str, Any], records: dict[str, Any], progress: Progress) -> RunPictures:
    """Draw the pictures of a run's page, as far as the run has come.

    Args:
        run: its folder.
        recipe: its ``recipe.json``.
        records: command and result of each of its stages.
        progress: told after each kind of picture.
    """
    from drivetl.report import RunPictures

    stages = {name: record["result"] for name, record in records.items()}
    dataset = _dataset(run, recipe)
    progress("page", 0, 4)
    training = _sheet(_labelled(dataset, "train")) if (dataset / "data.yaml").is_file() else None
    progress("page", 1, 4)
    pairs = list(_before_after(run, recipe, records)) if {"zero_shot", "adapted"} <= stages.keys() else []
    progress("page", 2, 4)
    video = None
    if "video" in stages and (run / "video.mp4").is_file():
        video = _sheet(_video_frames(run / "video.mp4", stages["video"]["frames_out"]))
    progress("page", 3, 4)
    worst = (stages.get("adapted", {}).get("errors") or {}).get("worst") or {}
    missed = list(_marked(dataset, worst.get("missed", ())))
    alarms = list(_marked(dataset, worst.get("false_alarms", ())))
    progress("page", 4, 4)
    return RunPictures(training, pairs, video, missed, alarms)


def _dataset(run: Path, recipe: dict[str, Any]) -> Path:
    """Return the run's dataset: the import itself where the recipe cuts no val out of it."""
    return run / ("imported" if (recipe.get("data") or {}).get("selection") == 0 else "dataset")


def _marked(dataset: Path, entries: Sequence[Mapping[str, Any]]) -> Iterator[tuple[NDArray[np.uint8], str]]:
    """Yield the surroundings of each box, with the box drawn and its words."""
    import cv2
    import numpy as np

    from drivetl.data.pictures import decode_picture

    for entry in entries[:_WORST]:
        path = dataset / entry["picture"]
        if not path.is_file():
            raise ConfigError(f"{quoted(path)} is named by the run's evaluation and is not there; carry it out again")
        image = decode_picture(path)
        height, width = image.shape[:2]
        left, top, right, bottom = entry["xyxy_px"]
        # Three times the box, at least a third of the picture, in the shape of a picture.
        across = min(width, max(3 * (right - left), 4 * (bottom - top), width / 3))
        down = min(height, across * 9 / 16)
        x0 = int(np.clip((left + right - across) / 2, 0, width - across))
        y0 = int(np.clip((top + bottom - down) / 2, 0, height - down))
        crop = np.ascontiguousarray(image[y0 : y0 + int(down), x0 : x0 + int(across)])
        scale = _CELL_WIDTH_PX / crop.shape[1]
        shown = cv2.resize(crop, (_CELL_WIDTH_PX, max(1, round(crop.shape[0] * scale))), interpolation=cv2.INTER_AREA)
        corners = [
            round((value - shift) * scale) for value, shift in zip(entry["xyxy_px"], (x0, y0, x0, y0), strict=True)
        ]
        alarm = "confidence" in entry
        colour = (60, 60, 230) if alarm else (0, 200, 255)
        cv2.rectangle(shown, (corners[0], corners[1]), (corners[2], corners[3]), colour, 2)
        words = f"{entry['class']} at {entry['confidence']:.2f}, {entry['kind']}" if alarm else entry["class"]
        yield shown.astype(np.uint8, copy=False), f"{words} ({path.name})"


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
    run: Path, recipe: dict[str, Any], records: dict[str, Any]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8], str]]:
    """Yield pictures with the detections of both models: those with the most boxes, clear and in the weather."""
    from drivetl.data import open_dataset
    from drivetl.evaluate import open_model

    size_hw = size_from(recipe.get("input_size") or str(recipe["imgsz"]))
    # The stages measured these two; their commands name them.
    before = open_model(_model_of(records, "zero_shot"), size_hw=size_hw)
    after = open_model(_model_of(records, "adapted"), size_hw=size_hw)
    places = [(_dataset(run, recipe), "a held-out picture")]
    if "weather" in records:
        weather = records["weather"]["result"]
        places.append((run / "weather", f"{weather['condition']}, severity {weather['severity']}"))
    for folder, caption in places:
        samples = sorted(
            open_dataset(folder).samples(recipe["report_split"]), key=lambda s: (-len(s.boxes), s.image.name)
        )
        for sample in samples[:_PAIRS]:
            yield _detected(before, sample.image), _detected(after, sample.image), caption


def _model_of(records: dict[str, Any], stage: str) -> str:
    command = records[stage].get("command", [])
    if len(command) < 3:
        raise ConfigError(f"the run's {quoted(stage + '.json')} is damaged; carry out the run again")
    return str(command[2])


def _detected(model: Model, picture: Path) -> NDArray[np.uint8]:
    """Return the picture with what the model detects on it, classes named as the dataset names them."""
    from drivetl.data.pictures import decode_picture
    from drivetl.runtime import decode
    from drivetl.video.draw import annotate

    image = decode_picture(picture)
    letterboxed, geometry = model.letterbox(image)
    found = decode(model.raw(model.to_input(letterboxed)), geometry, confidence=_CONFIDENCE, decoding=model.decoding)
    annotate(image, found, model.class_names)
    return image
