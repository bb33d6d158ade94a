"""What an environment is: a YAML of ranges from which every scene draws its own values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from drivetl.config import StrictModel, load_model
from drivetl.resources import resource_dir, resource_file

__all__ = ["Preset", "known_presets", "load_preset"]

_KIND = "configs/scenes"


def _ordered(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError(f"a range is [lowest, highest], not {list(span)}")
    return span


def _colour(rgb: tuple[int, int, int]) -> tuple[int, int, int]:
    if not all(0 <= value <= 255 for value in rgb):
        raise ValueError(f"a colour is three numbers from 0 to 255, not {list(rgb)}")
    return rgb


Span = Annotated[tuple[float, float], AfterValidator(_ordered)]
Counts = Annotated[tuple[int, int], AfterValidator(_ordered)]
Rgb = Annotated[tuple[int, int, int], AfterValidator(_colour)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Style = Literal["plaster", "brick", "glass", "hall", "house"]
Palette = Annotated[tuple[Rgb, ...], Field(min_length=1)]


class CameraPreset(StrictModel):
    """Where the camera hangs and what it sees. ``focal_share`` is the focal length as a share of the long side."""

    height_m: Span = (1.3, 1.6)
    focal_share: Span = (0.6, 0.75)
    pitch_deg: Span = (-1.0, 2.0)


class LightPreset(StrictModel):
    """Sun, sky and air. ``warmth`` is -1 (blue) to 1 (orange); ``visibility_m`` is the meteorological visibility."""

    timeofday: Literal["daytime", "dawn/dusk"] = "daytime"
    sun_elevation_deg: Span = (20.0, 60.0)
    sunny_share: Share = 0.6
    cloud_cover: Span = (0.1, 0.7)
    visibility_m: Span = (4000.0, 15000.0)
    exposure_ev: Span = (-0.4, 0.4)
    warmth: Span = (-0.1, 0.2)


class RoadPreset(StrictModel):
    """The road and what lies flat beside it. ``wear`` is 0 (fresh markings and asphalt) to 1 (hardly any left)."""

    drive_side: Literal["right", "left"] = "right"
    lanes_each_way: Counts = (1, 2)
    lane_width_m: Span = (3.0, 3.5)
    parking_share: Share = 0.5
    pavement_m: Span = (1.8, 3.5)
    verge_m: Span = (0.0, 2.0)
    asphalt_rgb: Palette = ((84, 84, 86),)
    pavement_rgb: Palette = ((140, 136, 130),)
    verge_rgb: Palette = ((78, 96, 52),)
    centre_line_rgb: Rgb = (225, 225, 220)
    wear: Span = (0.1, 0.6)
    junction_share: Share = 0.5


class BuildingsPreset(StrictModel):
    """What stands along the road. ``frontage`` is the share of the roadside that is built on."""

    frontage: Share = 0.9
    height_m: Span = (8.0, 22.0)
    width_m: Span = (9.0, 22.0)
    setback_m: Span = (0.0, 2.0)
    wall_rgb: Palette = ((170, 150, 130),)
    styles: Annotated[tuple[Style, ...], Field(min_length=1)] = ("plaster",)


class GreenPreset(StrictModel):
    """Trees and hedges, per 100 m of each roadside."""

    trees_per_100m: Span = (1.0, 6.0)
    tree_height_m: Span = (5.0, 11.0)
    crown_rgb: Palette = ((70, 92, 44),)
    conifer_share: Share = 0.1


class Mix(StrictModel):
    """How often each kind of vehicle is drawn, relative to the others."""

    car: float = Field(default=0.7, ge=0)
    van: float = Field(default=0.08, ge=0)
    truck: float = Field(default=0.08, ge=0)
    bus: float = Field(default=0.05, ge=0)
    motorcycle: float = Field(default=0.05, ge=0)
    bicycle: float = Field(default=0.06, ge=0)


class TrafficPreset(StrictModel):
    """Who is on the road. ``vehicles`` move or wait in the lanes; ``parked`` stand at the kerb."""

    vehicles: Counts = (3, 9)
    parked: Counts = (0, 8)
    people: Counts = (1, 9)
    mix: Mix = Mix()
    paint_rgb: Palette = ((200, 200, 200), (40, 40, 44), (120, 124, 130), (150, 30, 30), (36, 60, 120))
    signs_per_100m: Span = (0.5, 2.5)
    lights_share: Share = 0.6


class FinishPreset(StrictModel):
    """What lens, sensor and processing add. ``noise`` is in grey levels, ``blur_px`` a Gaussian sigma at 960 across."""

    noise: Span = (0.8, 3.0)
    blur_px: Span = (0.45, 0.8)
    vignette: Span = (0.05, 0.25)
    saturation: Span = (0.85, 1.1)
    contrast: Span = (0.9, 1.15)
    jpeg_quality: Counts = (85, 95)


class Preset(StrictModel):
    """One environment. Every scene draws its own values from the ranges, so no two scenes are alike."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    scene: Literal["city street", "residential", "highway", "industrial"] = "city street"
    camera: CameraPreset = CameraPreset()
    light: LightPreset = LightPreset()
    road: RoadPreset = RoadPreset()
    buildings: BuildingsPreset = BuildingsPreset()
    green: GreenPreset = GreenPreset()
    traffic: TrafficPreset = TrafficPreset()
    finish: FinishPreset = FinishPreset()


def known_presets() -> tuple[str, ...]:
    """Return the names of the shipped presets."""
    return tuple(sorted(path.stem for path in resource_dir(_KIND).glob("*.yaml")))


def load_preset(name_or_path: str | Path) -> Preset:
    """Return a shipped preset by its name, or the one in a YAML file.

    Raises:
        ConfigError: there is no such preset, or the file has an unknown key (the nearest is suggested) or a value
            out of range.
    """
    text = str(name_or_path)
    path = Path(text) if text.endswith((".yaml", ".yml")) else resource_file(_KIND, text)
    return load_model(Preset, path)
