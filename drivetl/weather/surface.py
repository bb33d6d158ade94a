"""The small view that smooth effects are computed on, and what weather does to the ground in it."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.weather.checks import BgrImage, DepthMap, require_colour
from drivetl.weather.depth import DEFAULT_FOCAL, ground_weight
from drivetl.weather.pixels import Bgr, Float, f32, scaled, u8
from drivetl.weather.scattering import airlight_of
from drivetl.weather.sky import shrink, working_scale
from drivetl.weather.tiles import fractal_tile

__all__ = ["SmallView", "small_view", "snow_cover", "view_airlight", "wet_ground"]

# What wet asphalt reflects of what dry asphalt does, in linear light.
_WET_REFLECTANCE = 0.58


class SmallView(NamedTuple):
    """A picture on a small grid: uint8 (rows, columns, 3); metres; sky; how surely a pixel is level ground."""

    image_bgr: BgrImage
    depth_m: Float
    sky: NDArray[np.bool_]
    ground: Float


def small_view(image_bgr: BgrImage, depth_m: DepthMap, long_side_px: int = 240) -> SmallView:
    """Return picture, depth (10 km at most), sky and ground on a small grid."""
    scale = working_scale((image_bgr.shape[0], image_bgr.shape[1]), long_side_px)
    near = cv2.resize(depth_m, scale.size_wh, interpolation=cv2.INTER_NEAREST)
    capped = np.minimum(near, np.float32(1e4))
    return SmallView(shrink(image_bgr, scale), capped, np.isinf(near), ground_weight(depth_m, long_side_px))


def view_airlight(view: SmallView, airlight_bgr: Bgr | None) -> Bgr:
    """Return the airlight that was given, checked, or else that of the view's sky."""
    if airlight_bgr is None:
        return airlight_of(view.image_bgr, view.sky)
    return require_colour("airlight_bgr", airlight_bgr)


def wet_ground(view: SmallView, wetness: float, camera_height_m: float = 1.5) -> tuple[Float, Float]:
    """Return what wet ground does: a gain (rows, columns) and mirrored light (rows, columns, 3), both 0..1.

    Water in the pores traps light: wet asphalt reflects roughly half to two thirds of what dry asphalt does (the
    effect that Lekner and Dorf explain, Applied Optics 27, 1988); 0.58 lies between, and is taken in linear light,
    so in coded values it is 0.58^(1/2.2). The film reflects by Schlick's form of Fresnel's law with 2 % at normal
    incidence, so more at a distance; its roughness stretches the mirror image downwards and takes half of it.
    """
    cosine = np.minimum(camera_height_m / view.depth_m, 1.0)
    # Houses begin somewhere below the horizon, where exactly the prior cannot know: the wet fades in softly.
    height = view.ground.shape[0]
    ground = f32(cv2.blur(view.ground * _road(view), (5, max(3, height // 16) | 1)))
    mirrored = (0.02 + 0.98 * (1.0 - cosine) ** 5) * ground * np.float32(0.5 * wetness)
    reflected = 1.0 - np.float32((1.0 - _WET_REFLECTANCE) * wetness) * ground
    gain = np.power(reflected, np.float32(1 / 2.2)) * (1.0 - mirrored)
    share = scaled(mirrored)
    light = cv2.multiply(_mirror(view), cv2.merge([share, share, share]), scale=1 / 255)
    return f32(gain), light.astype(np.float32) / np.float32(255)


def _mirror(view: SmallView) -> BgrImage:
    """Return the picture mirrored at the line where each column's ground begins, stretched and blurred."""
    height, width = view.ground.shape
    begins = height - (view.ground > 0.5).sum(axis=0).astype(np.float32)
    begins = cv2.blur(begins[None, :], (max(3, width // 8) | 1, 1), borderType=cv2.BORDER_REPLICATE)
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.repeat(np.arange(width, dtype=np.float32)[None, :], height, axis=0)
    source = np.clip(2.0 * begins - rows, 0, height - 1).astype(np.float32)
    mirrored = cv2.remap(view.image_bgr, columns, source, cv2.INTER_LINEAR)
    return u8(cv2.blur(mirrored, (3, max(3, height // 10) | 1)))


def snow_cover(view: SmallView, cover: float, corner_xy: NDArray[np.float64]) -> Float:
    """Return how much snow lies on each pixel, 0..1 (rows, columns): ``cover`` of the ground, in patches.

    Patches have the size of patches on the road, not in the picture: the cloudy tile is laid on the ground plane.
    Cars without a box would be snowed over: a column's snow ends where, seen from below, the road does.
    """
    begins = int(np.argmax(view.ground.max(axis=1) > 0.0))
    distance = np.minimum(view.depth_m[begins:], 80.0)
    width = distance.shape[1]
    aside = (
        (np.arange(width, dtype=np.float32) - width / 2)
        * distance
        / np.float32(DEFAULT_FOCAL * max(view.depth_m.shape))
    )
    map_x, map_y = f32(aside * 26 + np.float32(corner_xy[0])), f32(distance * 12 + np.float32(corner_xy[1]))
    patches = f32(cv2.remap(fractal_tile(2, 512, 8, 6), map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP))
    # Far patches shrink below the grid; there only their share of the area is seen.
    patches = patches + (0.5 - patches) * np.clip(distance / 60.0, 0.0, 1.0)
    # Tyres clear two tracks, and traffic the lane between them a little; snow lies longest beside the lane.
    off_track = np.abs(np.abs(aside) - np.float32(0.8))
    patches += np.float32(0.42) * cv2.exp(-np.square(off_track / np.float32(0.34)))
    patches += np.float32(0.25) * np.clip(1.0 - (np.abs(aside) - 1.6) / 1.2, 0.0, 1.0) - np.float32(0.15)
    # Patches thin out towards their edges, and thin snow lets the road through.
    lies = np.clip((1.3 * cover - patches) / 0.5 + 0.45, 0.0, 1.0) * np.float32(min(0.95, 0.45 + cover))
    snow = np.zeros_like(view.ground)
    snow[begins:] = lies * view.ground[begins:] * _road(view)[begins:]
    return f32(cv2.blur(snow, (3, 3)))


def _road(view: SmallView) -> Float:
    """Return how much each pixel looks like part of the road surface, seen upwards from the near ground."""
    height, width = view.ground.shape
    begins = int(np.argmax(view.ground.max(axis=1) > 0.05))
    if not (view.ground > 0.6).any() or height - begins < 4 or width < 4:
        return view.ground
    # Half the grid is fine enough for what is blurred in the end, and nothing above the ground matters.
    half_wh = (width // 2, (height - begins) // 2)
    picture = view.image_bgr[begins:]
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    sure = cv2.resize(view.ground[begins:], half_wh, interpolation=cv2.INTER_NEAREST) > 0.6
    # Asphalt is smooth; a car is full of edges.
    edges = cv2.resize(cv2.absdiff(grey, cv2.blur(grey, (7, 5))), half_wh, interpolation=cv2.INTER_AREA)
    like = np.clip(1.5 - cv2.blur(edges, (5, 3)).astype(np.float32) * np.float32(1 / 11), 0.15, 1.0)
    like *= _surface_colour(u8(cv2.resize(picture, half_wh, interpolation=cv2.INTER_AREA)), sure)
    # The own bonnet is no obstacle on the road; it is warm, and the snow on it is the wind's.
    lowest = max(0, int((0.82 * height - begins) / 2))
    bonnet = like[lowest:].copy()
    like[lowest:] = 1.0
    # min over the rows below of (like + slope * distance): what stands on a dark patch, for a sixth of the height.
    climb = np.arange(half_wh[1], dtype=np.float32)[:, None] * np.float32(12.0 / height)
    reached = np.minimum.accumulate((like + climb)[::-1], axis=0)[::-1] - climb
    reached[lowest:] = bonnet
    road = np.zeros_like(view.ground)
    road[begins:] = cv2.resize(cv2.blur(reached, (5, 3)), (width, height - begins), interpolation=cv2.INTER_LINEAR)
    return road


def _surface_colour(picture: BgrImage, sure: NDArray[np.bool_]) -> Float:
    """Return how much each pixel has the brightness and colour of the road, known at ``sure``; 0.15 to 1."""
    blue, green, red = cv2.split(cv2.blur(picture, (3, 3)).astype(np.float32))
    total = blue + green + red
    level = float(np.median(total[sure])) if sure.any() else float(np.median(total))
    share = total * np.float32(1.0 / (level + 3.0))
    # Much darker than the road is a tyre or the shadow under a car; the shadow of a tree is not as dark.
    like = np.clip((share - 0.24) / 0.16, 0.15, 1.0)
    # Much brighter is a wall, and so is brick or wood; grass beside the road is where snow stays first.
    like *= np.clip((2.6 - share) / 0.6, 0.15, 1.0)
    warm = (red - blue) / (total + np.float32(30.0))
    warm -= np.float32(np.median(warm[sure])) if sure.any() else np.float32(np.median(warm))
    like *= np.where(green > red, np.float32(1.0), np.clip(1.0 - (warm - 0.07) / 0.10, 0.15, 1.0))
    return f32(like)
