"""Switches that keep Ultralytics offline and safe. They work only if they are set before it is imported.

Standard library only: this module loads neither torch nor Ultralytics.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from drivetl.errors import ConfigError, MissingExtraError, quoted
from drivetl.files import atomic_file, expanded, writing

__all__ = ["cache_dir", "prepare"]

# Ultralytics opens github.com for these two (Latin and other class names) unless they lie in its own folder.
_FONTS = ("Arial.ttf", "Arial.Unicode.ttf")


def cache_dir() -> Path:
    """Return drivetl's own folder for downloads and settings: ``$DRIVETL_CACHE``, else the user's cache."""
    if own := os.environ.get("DRIVETL_CACHE"):
        return expanded(own, "DRIVETL_CACHE").resolve()
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "XDG_CACHE_HOME").resolve() / "drivetl"


def _switches() -> dict[str, str]:
    return {
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_CONFIG_DIR": str(cache_dir() / "ultralytics"),
        "ULTRALYTICS_SAFE_LOAD": "1",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        # Its log lines and progress bars would land on stdout, between the lines of a verb's result.
        "YOLO_VERBOSE": "false",
    }


def prepare() -> None:
    """Set the switches and lay out the folder that Ultralytics keeps its settings and fonts in.

    Call it before the first import of Ultralytics; calling it again does nothing. Child processes inherit the
    switches.

    Raises:
        ConfigError: Ultralytics was imported earlier in this process without the switches.
        MissingExtraError: Ultralytics is not installed.
        OutputError: the cache folder cannot be written.
    """
    switches = _switches()
    if "ultralytics" in sys.modules:
        # Ultralytics reads its environment once, at import: what it found then is what holds.
        missing = [name for name in switches if os.environ.get(name) is None] or _not_in_effect()
        if missing:
            raise ConfigError(
                f"ultralytics was imported before drivetl could switch off its network access ({', '.join(missing)}); "
                "import drivetl.yolo.ultra first, or run drivetl in a process of its own"
            )
        return
    if importlib.util.find_spec("ultralytics") is None:
        raise MissingExtraError("this needs the package 'ultralytics'; install it with: pip install 'drivetl[train]'")
    os.environ.update(switches)
    _lay_out_fonts(Path(switches["YOLO_CONFIG_DIR"]) / "Ultralytics")


def _not_in_effect() -> list[str]:
    utils = sys.modules.get("ultralytics.utils")
    wrong = []
    if getattr(utils, "ONLINE", True):
        wrong.append("YOLO_OFFLINE")
    if not getattr(utils, "SAFE_LOAD", False):
        wrong.append("ULTRALYTICS_SAFE_LOAD")
    return wrong


def _lay_out_fonts(folder: Path) -> None:
    missing = [folder / name for name in _FONTS if not (folder / name).is_file()]
    if not missing:
        return
    font = _any_font().read_bytes()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for target in missing:
        # Two processes may do this at the same time; each puts a whole file in place.
        with atomic_file(target, overwrite=True) as temporary:
            temporary.write_bytes(font)


def _any_font() -> Path:
    """Return DejaVu Sans as matplotlib ships it; matplotlib comes with Ultralytics."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            "ultralytics needs the package 'matplotlib'; install it with: pip install 'drivetl[train]'"
        )
    font = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    if not font.is_file():
        raise ConfigError(
            f"matplotlib lacks its font {quoted(font)}; reinstall it, or ultralytics would fetch one from the network"
        )
    return font
