"""What an environment is: a YAML of ranges from which every scene draws its own values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from drivetl.config import StrictModel, load_model
from drivetl.resources import resource_dir, resource_file

__all__ = ["Preset", "known_presets", "load_preset"]

_KIND = "configs/scenes"


_Pair = TypeVar("_Pair", tuple[float, float], tuple[int, int])


def _ordered(span: _Pair) -> _Pair:
    if span[0] > span[1]:
        raise ValueError(f"a range is [lowest, highest], not {list(span)}")
    return span


def _within(lowest: float, highest: float) -> AfterValidator:
    """Return the check that a range stays inside these: what lies beyond is no street, or cannot be drawn."""

    def check(span: _Pair) -> _Pair:
        if not (lowest <= span[0] and span[1] <= highest):
            raise ValueError(f"both ends are from {lowest:g} to {highest:g}, not {list(span)}")
        return span

    return AfterValidator(check)


def _colour(rgb: tuple[int, int, int]) -> tuple[int, int, int]:
    if not all(0 <= value <= 255 for value in rgb):
        raise ValueError(f"a colour is three numbers from 0 to 255, not {list(rgb)}")
    return rgb


Finite = Annotated[float, Field(allow_inf_nan=False)]
Span = Annotated[tuple[Finite, Finite], AfterValidator(_ordered)]
Counts = Annotated[tuple[int, int], AfterValidator(_ordered)]
Rgb = Annotated[tuple[int, int, int], AfterValidator(_colour)]
Weight = Annotated[float, Field(ge=0.0, le=1e6)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Style = Literal["plaster", "brick", "glass", "hall", "house"]
Palette = Annotated[tuple[Rgb, ...], Field(min_length=1)]


class CameraPreset(StrictModel):
    """Where the camera hangs and what it sees. ``focal_share`` is the focal length as a share of the long side."""

    height_m: Annotated[Span, _within(0.2, 20)] = (1.3, 1.6)
    focal_share: Annotated[Span, _within(0.2, 5)] = (0.6, 0.75)
    pitch_deg: Annotated[Span, _within(-45, 45)] = (-1.0, 2.0)


class LightPreset(StrictModel):
    """Sun, sky and air. ``warmth`` is -1 (blue) to 1 (orange); ``visibility_m`` is the meteorological visibility."""

    timeofday: Literal["daytime", "dawn/dusk"] = "daytime"
    sun_elevation_deg: Annotated[Span, _within(1, 90)] = (20.0, 60.0)
    sunny_share: Share = 0.6
    cloud_cover: Annotated[Span, _within(0, 1)] = (0.1, 0.7)
    visibility_m: Annotated[Span, _within(10, 1e6)] = (4000.0, 15000.0)
    exposure_ev: Annotated[Span, _within(-8, 8)] = (-0.4, 0.4)
    warmth: Annotated[Span, _within(-1, 1)] = (-0.1, 0.2)


class RoadPreset(StrictModel):
    """The road and what lies flat beside it. ``wear`` is 0 (fresh markings and asphalt) to 1 (hardly any left)."""

    drive_side: Literal["right", "left"] = "right"
    lanes_each_way: Annotated[Counts, _within(1, 6)] = (1, 2)
    lane_width_m: Annotated[Span, _within(2, 8)] = (3.0, 3.5)
    parking_share: Share = 0.5
    pavement_m: Annotated[Span, _within(0, 20)] = (1.8, 3.5)
    verge_m: Annotated[Span, _within(0, 50)] = (0.0, 2.0)
    asphalt_rgb: Palette = ((84, 84, 86),)
    pavement_rgb: Palette = ((140, 136, 130),)
    verge_rgb: Palette = ((78, 96, 52),)
    centre_line_rgb: Rgb = (225, 225, 220)
    wear: Annotated[Span, _within(0, 1)] = (0.1, 0.6)
    junction_share: Share = 0.5


class BuildingsPreset(StrictModel):
    """What stands along the road. ``frontage`` is the share of the roadside that is built on."""

    frontage: Share = 0.9
    height_m: Annotated[Span, _within(3, 200)] = (8.0, 22.0)
    width_m: Annotated[Span, _within(3, 200)] = (9.0, 22.0)
    setback_m: Annotated[Span, _within(0, 100)] = (0.0, 2.0)
    wall_rgb: Palette = ((170, 150, 130),)
    styles: Annotated[tuple[Style, ...], Field(min_length=1)] = ("plaster",)


class GreenPreset(StrictModel):
    """Trees and hedges, per 100 m of each roadside."""

    trees_per_100m: Annotated[Span, _within(0, 100)] = (1.0, 6.0)
    tree_height_m: Annotated[Span, _within(1, 50)] = (5.0, 11.0)
    crown_rgb: Palette = ((70, 92, 44),)
    conifer_share: Share = 0.1


class Mix(StrictModel):
    """How often each kind of vehicle is drawn, relative to the others."""

    car: Weight = 0.7
    van: Weight = 0.08
    truck: Weight = 0.08
    bus: Weight = 0.05
    motorcycle: Weight = 0.05
    bicycle: Weight = 0.06

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not any(weight > 0 for weight in self.model_dump().values()):
            raise ValueError(
                "one kind of vehicle at least needs a weight above 0; for empty roads set vehicles: [0, 0]"
            )
        return self


class TrafficPreset(StrictModel):
    """Who is on the road. ``vehicles`` move or wait in the lanes; ``parked`` stand at the kerb."""

    vehicles: Annotated[Counts, _within(0, 100)] = (3, 9)
    parked: Annotated[Counts, _within(0, 100)] = (0, 8)
    people: Annotated[Counts, _within(0, 100)] = (1, 9)
    mix: Mix = Mix()
    paint_rgb: Palette = ((200, 200, 200), (40, 40, 44), (120, 124, 130), (150, 30, 30), (36, 60, 120))
    signs_per_100m: Annotated[Span, _within(0, 50)] = (0.5, 2.5)
    lights_share: Share = 0.6


class FinishPreset(StrictModel):
    """What lens, sensor and processing add. ``noise`` is in grey levels, ``blur_px`` a Gaussian sigma at 960 across."""

    noise: Annotated[Span, _within(0, 50)] = (0.8, 3.0)
    blur_px: Annotated[Span, _within(0, 20)] = (0.45, 0.8)
    vignette: Annotated[Span, _within(0, 1)] = (0.05, 0.25)
    saturation: Annotated[Span, _within(0, 3)] = (0.85, 1.1)
    contrast: Annotated[Span, _within(0.1, 3)] = (0.9, 1.15)
    jpeg_quality: Annotated[Counts, _within(1, 100)] = (85, 95)


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
