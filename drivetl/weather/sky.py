"""Where the horizon runs and where the sky is, from one small road picture."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.weather.checks import BgrImage
from drivetl.weather.pixels import f32, u8

__all__ = ["DEFAULT_HORIZON", "WorkingScale", "estimate_horizon", "find_sky", "shrink", "sky_weight", "working_scale"]

# Where the horizon of a forward-looking camera usually lies, as a share of the height (KITTI and BDD100K: 0.42 to 0.5).
DEFAULT_HORIZON = 0.46
# Wide, because dashboard cameras are mounted at any pitch: eight streets marked by hand lie from 0.33 to 0.52.
_HORIZON_SPREAD = 0.12
_WORKING_PX = 320
_MOST_WITNESSES = 1000
_QUORUM = 1000
_CLOSE_PX = 41

Float = NDArray[np.float32]


class WorkingScale(NamedTuple):
    """A small grid for smooth quantities: its (width, height), and its pixels per pixel of the picture."""

    size_wh: tuple[int, int]
    x: float
    y: float


def working_scale(size_hw: tuple[int, int], long_side_px: int = _WORKING_PX) -> WorkingScale:
    """Return the small grid for a picture of the given (height, width)."""
    height, width = size_hw
    factor = min(1.0, long_side_px / max(height, width))
    small_w, small_h = max(1, round(width * factor)), max(1, round(height * factor))
    return WorkingScale((small_w, small_h), small_w / width, small_h / height)


def shrink(image: BgrImage, scale: WorkingScale) -> BgrImage:
    """Return the picture on the small grid, averaged over area; halving first is three times faster."""
    while image.shape[1] >= 2 * scale.size_wh[0] and image.shape[0] >= 2 * scale.size_wh[1]:
        half = (image.shape[1] // 2, image.shape[0] // 2)
        image = u8(cv2.resize(image, half, interpolation=cv2.INTER_AREA))
    if (image.shape[1], image.shape[0]) == scale.size_wh:
        return image
    return u8(cv2.resize(image, scale.size_wh, interpolation=cv2.INTER_AREA))


def estimate_horizon(small_bgr: BgrImage) -> float:
    """Return the row of the horizon, estimated from where the edges of road, kerbs and houses converge.

    Every edge pixel votes, along its own direction, for the row in which its line crosses each of a few columns in
    the middle of the picture. The row with most votes is the height of the vanishing point; a wide Gaussian around
    the usual place (46 % of the height) weighs the votes, and decides alone where there are no lines.
    After Kong, Audibert and Ponce, "Vanishing point detection for road detection", CVPR 2009, in a much smaller form.

    It is for cameras of unknown pitch: on eight dashboard pictures marked by hand it errs by 4 % of the height, where
    the usual place errs by 8 %. On a car whose camera is level, as KITTI's, the usual place is better (0.2 % against
    1.7 %): give ``horizon_px`` to `depth_prior` where the camera is known.
    """
    height, width = small_bgr.shape[:2]
    rows = np.arange(height)
    prior = np.exp(-0.5 * ((rows / height - DEFAULT_HORIZON) / _HORIZON_SPREAD) ** 2)
    if min(height, width) < 16:
        return DEFAULT_HORIZON * float(height)
    grey = cv2.GaussianBlur(cv2.cvtColor(small_bgr, cv2.COLOR_BGR2GRAY), (3, 3), 0)
    dx = cv2.Sobel(grey, cv2.CV_16S, 1, 0).astype(np.float32)
    dy = cv2.Sobel(grey, cv2.CV_16S, 0, 1).astype(np.float32)
    ax, ay = np.abs(dx), np.abs(dy)
    # Slanted edges only: upright and level ones (poles, roofs, the bonnet) say nothing about the vanishing point.
    slanted = (ax + ay > 60) & (ay > 0.22 * ax) & (ax > 0.15 * ay)
    # Below the horizon lines are those of road, kerbs and cars; above it, of roofs and branches.
    slanted[int(0.85 * height) :] = False
    slanted[: int(0.4 * height)] = False
    edges_xy = cv2.findNonZero(slanted.view(np.uint8))
    if edges_xy is None or len(edges_xy) < 40:
        return float(np.argmax(prior))
    stride = -(-len(edges_xy) // _MOST_WITNESSES)
    # OpenCV 4 gives (n, 1, 2), OpenCV 5 (n, 2).
    xs, ys = edges_xy.reshape(-1, 2)[::stride].T
    heard = _votes(ys, xs, dx, dy)
    # A handful of edges must not outvote what is usual.
    trust = min(1.0, ys.size / _QUORUM)
    score = (trust * heard / max(float(heard.mean()), 1e-6) + 1.0) * prior
    return float(np.argmax(score))


def _votes(ys: NDArray[Any], xs: NDArray[Any], dx: Float, dy: Float) -> Float:
    """Return how many edges point to each row, (rows,), in whichever of five columns most of them agree."""
    height, width = dx.shape
    gx, gy = dx[ys, xs], dy[ys, xs]
    strength = np.minimum(np.hypot(gx, gy), 250.0)
    votes = np.zeros((5, height), np.float32)
    for index, share in enumerate(np.linspace(0.4, 0.6, 5)):
        column = share * width
        crossing = ys - (gx / gy) * (column - xs)
        away = np.abs(xs - column)
        # An edge near the column crosses it close by whatever its direction: it is no witness. A far one aims badly.
        witness = (away > 0.08 * width) & (crossing >= 0) & (crossing < np.minimum(ys, height - 0.5))
        weight = strength[witness] / (1.0 + away[witness] / (0.15 * width))
        votes[index] = np.bincount(np.rint(crossing[witness]).astype(np.intp), weight, height)[:height]
    return f32(cv2.GaussianBlur(votes, (0, 0), sigmaX=0.02 * height, sigmaY=0.8).max(axis=0))


def find_sky(small_bgr: BgrImage, horizon: float | None) -> tuple[float, Float]:
    """Return the horizon's row and the weight of sky as `sky_weight` gives it; the horizon is estimated where None.

    An estimate is corrected by up to 6 % of the height where more than a third of a row below it is sky: the sky
    does not reach below the horizon.
    """
    if horizon is not None:
        return horizon, sky_weight(small_bgr, horizon)
    height = small_bgr.shape[0]
    estimate = estimate_horizon(small_bgr)
    sky = sky_weight(small_bgr, estimate + 0.06 * height)
    wide = np.nonzero(sky.mean(axis=1) > 0.35)[0]
    lowest = max(estimate, float(wide[-1]) + 0.5 if wide.size else 0.0)
    sky[math.ceil(lowest) :] = 0.0
    return lowest, sky


def sky_weight(small_bgr: BgrImage, horizon: float) -> Float:
    """Return how surely each pixel is sky, float32 in 0..1: bright in blue, smooth, above the horizon, open to the top.

    The blue channel separates sky from foliage, brick and asphalt under a clear as under an overcast sky. A region
    counts only if it reaches the upper edge of the picture, or is small, near such a one and of its colour: a white
    lorry is no sky.
    """
    height, width = small_bgr.shape[:2]
    sky = np.zeros((height, width), np.float32)
    top = int(np.clip(round(horizon), 0, height))
    if top < 2:
        return sky
    blue = u8(cv2.GaussianBlur(small_bgr[:top, :, 0], (3, 3), 0))
    threshold = _sky_threshold(blue)
    if threshold is None:
        return sky
    candidate = (blue > threshold).astype(np.uint8)
    smooth = cv2.absdiff(blue, cv2.blur(blue, (5, 5))) < 12
    # Opening cuts the thin bridges through foliage by which a white lorry would be joined to the sky.
    candidate = u8(cv2.erode(candidate & smooth.view(np.uint8), np.ones((5, 5), np.uint8), borderValue=1))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(candidate, connectivity=4)
    keep = np.zeros(count, bool)
    keep[1:] = (stats[1:, cv2.CC_STAT_TOP] <= 1) & (stats[1:, cv2.CC_STAT_AREA] >= 0.002 * width * height)
    sure = keep[labels].astype(np.uint8)
    if np.count_nonzero(sure) > 0.01 * width * height:
        # Wires and branches cut pieces off the sky; they have its colour and are close to it.
        mean, spread = cv2.meanStdDev(small_bgr[:top], mask=sure)
        reach = 8.0 + 1.5 * spread
        alike = cv2.inRange(small_bgr[:top], mean - reach, mean + reach)
        close = cv2.boxFilter(sure, cv2.CV_16U, (_CLOSE_PX, _CLOSE_PX), normalize=False) > 0
        # A large piece that does not reach the upper edge is the side of a white lorry or a wall.
        lorries = ~keep & (stats[:, cv2.CC_STAT_AREA] >= 0.006 * width * height)
        lorries[0] = False
        other = u8(cv2.dilate(lorries[labels].astype(np.uint8), np.ones((7, 7), np.uint8)))
        sure = sure | ((alike > 0) & close & (blue > threshold) & (other == 0)).view(np.uint8)
    region = cv2.dilate(sure, np.ones((7, 7), np.uint8))
    ramp = cv2.LUT(blue, np.clip((np.arange(256) - (threshold - 14)) / 28.0, 0.0, 1.0).astype(np.float32)) * region
    sky[:top] = cv2.blur(ramp, (3, 3))
    return sky


def _sky_threshold(blue: BgrImage) -> float | None:
    """Return the level of blue above which a pixel above the horizon may be sky, or None where nothing is bright."""
    bright = float(np.percentile(blue[::2, ::2], 98))
    if bright < 60:
        return None
    split, _ = cv2.threshold(blue, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return float(np.clip(split, 0.5 * bright, 0.82 * bright))
