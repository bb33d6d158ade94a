"""Detections as JSON lines and as the text of MOTChallenge: whole files, or none."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from drivetl.errors import ConfigError, OutputError, VideoError, quoted
from drivetl.file_url import without_file_url
from drivetl.files import atomic_file, refuse_existing, writing
from drivetl.video.lane import Job, View
from drivetl.video.picture_source import LIST_ENDING, pictures_in, pictures_listed
from drivetl.video.settings import Outputs
from drivetl.video.stills import STILLS_LIST, former_stills
from drivetl.video.tracking import tracking_available
from drivetl.video.writer import check_target

__all__ = ["LINES_SCHEMA", "DetectionLines", "MotLines", "check_outputs"]

LINES_SCHEMA = 1


def check_outputs(
    outputs: Outputs, source: str, track: bool | None, *, bundles: Sequence[Path] = (), stats: Path | None = None
) -> None:
    """Say before any work what would cost a result at its end.

    Args:
        outputs: where results go.
        source: of the frames; no result may take its place.
        track: see `drivetl.video.VideoSettings`.
        bundles: no result may take the place of their files.
        stats: one more file to be written.

    Raises:
        OutputError: a file exists, is a folder, lies below a file or where nothing can be written, is the source, a
            picture of it or a part of a bundle, is named twice, or is no video.
        ConfigError: tracks are to be written and none are followed.
    """
    source = without_file_url(source)
    if outputs.video is not None:
        check_target(outputs.video)
    named = {} if outputs.stills is None else {_resolved("--stills", outputs.stills): "--stills"}
    if named and _pictures_folders(source) & named.keys():
        raise OutputError(
            f"--stills {quoted(outputs.stills)} holds pictures of the source, which stills may replace; choose another "
            "folder"
        )
    kept = [_resolved("the bundle", bundle) for bundle in bundles]
    _check_folder("--stills", outputs.stills)
    files = {"--out": outputs.video, "--detections": outputs.detections, "--mot": outputs.mot, "--stats": stats}
    for option, path in files.items():
        if path is None:
            continue
        _check_folder(option, path)
        place = _resolved(option, path)
        if place in named:
            raise OutputError(f"{named[place]} and {option} are both {quoted(path)}; give each a file of its own")
        named[place] = option
        if path.is_dir():
            raise OutputError(f"{option} {quoted(path)} is a folder; give the name of a file")
        if any(bundle in place.parents for bundle in kept):
            raise OutputError(f"{option} {quoted(path)} lies in the bundle that is run; choose another folder")
        refuse_existing(path, overwrite=outputs.overwrite)
        _check_source_stays(option, path, source)
        _check_writable(path)
    if outputs.stills is not None:
        former_stills(outputs.stills, overwrite=outputs.overwrite)
        _check_writable(outputs.stills / STILLS_LIST)
    _check_tracks(outputs.mot, track)


def _resolved(option: str, path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "it is a link that leads back to itself"
        raise OutputError(f"{option} {quoted(path)} cannot be used: {reason}; choose another place") from error


def _check_folder(option: str, path: Path | None) -> None:
    """Say that a path leads through a file, where no folder can be made."""
    if path is None:
        return
    above = next((folder for folder in path.absolute().parents if os.path.lexists(folder)), None)
    if above is not None and not above.is_dir():
        raise OutputError(
            f"{option} {quoted(path)} cannot be made, because {quoted(above)} is no folder; choose another place"
        )


def _check_writable(path: Path) -> None:
    """Say that no file can be made beside a path, or where its folder would be made; nothing is left there."""
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    with writing(path):
        # Named as `atomic_file` names it, so that a name that grows too long by that is noticed too.
        descriptor, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=folder)
        os.close(descriptor)
        Path(name).unlink()


def _check_source_stays(option: str, path: Path, source: str) -> None:
    """Say that a file which is there is the source, or one of the pictures that it consists of."""
    if not path.exists():
        return
    with contextlib.suppress(OSError, ValueError):  # no such source: it has its own sentence
        if path.samefile(source):
            raise OutputError(f"{option} {quoted(path)} is the source itself; choose another file")
    with contextlib.suppress(OSError):
        standing = path.stat()
        if any(os.path.samestat(standing, picture.stat()) for picture in _pictures(source)):
            raise OutputError(f"{option} {quoted(path)} is a picture of the source; choose another file")


def _pictures(source: str) -> list[Path]:
    """Return the pictures that a source consists of; none of a video, a camera or a stream."""
    try:
        place = Path(source)
        if place.is_dir():
            return pictures_in(place)[0]
        if place.suffix.lower() == LIST_ENDING and place.is_file():
            return pictures_listed(place)
    except (OSError, ValueError, VideoError):  # no such source: it has its own sentence
        pass
    return []


def _pictures_folders(source: str) -> set[Path]:
    """Return the folders of the pictures that a source consists of."""
    try:
        place = Path(source)
        return {place.resolve()} if place.is_dir() else {picture.resolve().parent for picture in _pictures(source)}
    except (OSError, RuntimeError, ValueError):  # no such source: it has its own sentence
        return set()


def _check_tracks(mot: Path | None, track: bool | None) -> None:
    """Say that a file of tracks would stay empty."""
    if mot is None or track or (track is None and tracking_available()):
        return
    remedy = "leave out --no-track" if track is False else "pip install 'drivetl[video]'"
    raise ConfigError(f"--mot {quoted(mot)} would hold no track, because none are followed; {remedy}")


class _Lines:
    """A text file that is written line by line; use it as a context manager.

    It is kept where the block ends because something else could not be written (an `OutputError`).
    """

    _what = "lines"

    def __init__(self, target: Path, overwrite: bool) -> None:
        self._target, self._overwrite = target, overwrite
        self._sound: bool | None = None  # None: nothing was written yet
        self._stack = contextlib.ExitStack()
        self._handle: TextIO | None = None

    def __enter__(self) -> Any:
        with contextlib.ExitStack() as opening:
            temporary = opening.enter_context(atomic_file(self._target, overwrite=self._overwrite))
            with writing(self._target):
                self._handle = opening.enter_context(temporary.open("w", encoding="utf-8"))
            self._stack = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not (self._sound and isinstance(error, OutputError)):
            self._stack.__exit__(kind, error, traceback)
            return
        self._stack.close()
        raise OutputError(f"{error}. The {self._what} are kept: {quoted(self._target)}") from error

    def _add(self, text: str) -> None:
        assert self._handle is not None
        self._sound = False
        with writing(self._target):
            self._handle.write(text)
        self._sound = True


class DetectionLines(_Lines):
    """One JSON document for each frame, one a line.

    A line holds ``schema``, ``frame`` (from 0, of the frames handed on), ``time_s`` (after the first of them),
    ``size_wh`` of the source's frame, which may change, and ``detections``: each with ``class``, ``confidence``,
    ``xyxy_px`` in pixels of that frame, ``track`` (None before an object has a number) and ``bridged``: whether its
    confidence is not above the threshold, and it is here because its track was above it up to half a second before
    (never without tracking). With two models ``detections`` is replaced by ``models``: a list of ``model`` and
    ``detections``.
    """

    _what = "detections"

    def __init__(
        self, target: Path, names: Sequence[str], class_names: Sequence[Sequence[str]], overwrite: bool
    ) -> None:
        super().__init__(target, overwrite)
        self._names, self._class_names = names, class_names

    def write(self, job: Job, time_s: float) -> None:
        """Add the frame's line."""
        document: dict[str, Any] = {
            "schema": LINES_SCHEMA,
            "frame": job.index,
            "time_s": round(time_s, 6),
            "size_wh": list(job.size_wh),
        }
        found = [
            _objects(view, class_names, job.placed)
            for view, class_names in zip(job.views, self._class_names, strict=True)
        ]
        if len(found) == 1:
            document["detections"] = found[0]
        else:
            document["models"] = [
                {"model": name, "detections": objects} for name, objects in zip(self._names, found, strict=True)
            ]
        self._add(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")


class MotLines(_Lines):
    """Tracks of the first model as MOTChallenge has them (A. Milan et al., "MOT16", arXiv 1603.00831).

    ``frame,id,left,top,width,height,confidence,-1,-1,-1``: frames, ids and pixels count from 1. Boxes are in pixels of
    the output. Objects without a number are left out; boxes that bridge a moment of low confidence are in it (see
    `DetectionLines`), with the confidence that they have.
    """

    _what = "tracks"

    def write(self, job: Job) -> None:
        """Add a line for each tracked object."""
        tracked = job.views[0].tracked
        assert tracked is not None
        detections = tracked.detections
        rows = zip(tracked.track_id.tolist(), detections.xyxy_px.tolist(), detections.confidence.tolist(), strict=True)
        text = "".join(
            f"{job.index + 1},{number + 1},{left + 1:.2f},{top + 1:.2f},{right - left:.2f},{bottom - top:.2f},"
            f"{confidence:.4f},-1,-1,-1\n"
            for number, (left, top, right, bottom), confidence in rows
            if number >= 0
        )
        self._add(text)


def _objects(view: View, class_names: Sequence[str], placed: tuple[float, int, int]) -> list[dict[str, Any]]:
    tracked = view.tracked
    assert tracked is not None
    scale, left, top = placed
    boxes = (tracked.detections.xyxy_px - (left, top, left, top)) / scale
    return [
        {
            "class": class_names[kind],
            "confidence": round(confidence, 4),
            "xyxy_px": [round(value, 2) for value in box],
            "track": number if number >= 0 else None,
            "bridged": bridged,
        }
        for kind, confidence, box, number, bridged in zip(
            tracked.detections.class_id.tolist(),
            tracked.detections.confidence.tolist(),
            boxes.tolist(),
            tracked.track_id.tolist(),
            view.bridged.tolist(),
            strict=True,
        )
    ]
