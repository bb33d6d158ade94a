"""Fill the picture with numbers: which face is seen at each pixel. Colour, depth and boxes all come from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.scenes.camera import Camera, Float
from drivetl.scenes.faces import NEAR_M, Crown, Faces
from drivetl.scenes.textures import crown

__all__ = ["Raster", "fixed_point", "rasterise"]

_SHIFT = 4
_LIMIT = 1 << 20
_SMALLEST_CROWN_PX = 3
_SMALLEST_PX2 = 0.6


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """Which face is where.

    Attributes:
        face: int32 (height, width): 0 for the sky, 1 to ``ground`` for what lies on the ground, then ``faces`` in
            their order, then ``crowns``.
        ground: how many ground polygons there are.
        faces: the quads in the order in which they were drawn.
        pixels: their corners, float32 (n, 4, 2).
        crowns: the foliage, in the order in which it was drawn.
        crown_shade: uint8 (height, width), 128 is 1; only where a crown is seen.
        whole: int (owners,): pixels that each owner had before anything covered it.
    """

    face: NDArray[np.int32]
    ground: int
    faces: Faces
    pixels: Float
    crowns: tuple[Crown, ...]
    crown_shade: NDArray[np.uint8]
    whole: NDArray[np.intp]

    @property
    def owner_of(self) -> NDArray[np.int32]:
        """Return the owner of every face number, -1 for none."""
        owners = np.full(1 + self.ground + len(self.faces) + len(self.crowns), -1, np.int32)
        owners[1 + self.ground : 1 + self.ground + len(self.faces)] = self.faces.owner
        return owners


def fixed_point(pixels: Float) -> NDArray[np.int32]:
    """Return pixel coordinates as OpenCV's polygon filler takes them: sixteenths, from the middle of a pixel."""
    rounded = np.clip(np.rint((pixels - 0.5) * (1 << _SHIFT)), -_LIMIT, _LIMIT)
    return np.asarray(rounded, dtype=np.int32)


def rasterise(
    camera: Camera,
    ground: Sequence[NDArray[np.int32]],
    faces: Faces,
    crowns: Sequence[Crown],
    order: Sequence[int],
    owners: int,
) -> Raster:
    """Draw everything, what is far first.

    Args:
        camera: whose picture it is.
        ground: polygons in sixteenths of a pixel, in the order in which they lie on each other.
        faces: quads in any order.
        crowns: foliage.
        order: all groups, far to near.
        owners: how many labelled objects there are.
    """
    height, width = camera.size_hw
    face = np.zeros((height, width), np.int32)
    for number, polygon in enumerate(ground, start=1):
        cv2.fillConvexPoly(face, polygon, number, cv2.LINE_8, _SHIFT)
    rank = np.empty(len(order), np.intp)
    rank[np.asarray(order, np.intp)] = np.arange(len(order))
    depth = faces.seen[..., 2].mean(axis=1)
    faces = faces.taken(np.lexsort((-depth, faces.layer, -faces.part_m, rank[faces.group])))
    pixels = faces.pixels(camera)
    a, b = pixels[:, 2] - pixels[:, 0], pixels[:, 3] - pixels[:, 1]
    # Ornaments that no pixel shows are left out.
    large = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) > _SMALLEST_PX2
    index = np.flatnonzero(large | (faces.layer == 0))
    faces, pixels = faces.taken(index), pixels[index]
    corners = list(fixed_point(pixels))
    starts = np.searchsorted(rank[faces.group], np.arange(len(order) + 1))
    foliage: dict[int, list[Crown]] = {}
    for leaf in crowns:
        foliage.setdefault(leaf.group, []).append(leaf)
    first = 1 + len(ground)
    drawn: list[Crown] = []
    shade = np.full((height, width), 128, np.uint8)
    whole = np.zeros(owners, np.intp)
    owner_of = np.concatenate([np.full(first, -1, np.intp), faces.owner, np.full(len(crowns), -1, np.intp)])
    fill, line = cv2.fillConvexPoly, cv2.LINE_8
    for place, group in enumerate(order):
        start, end = int(starts[place]), int(starts[place + 1])
        for quad in range(start, end):
            fill(face, corners[quad], first + quad, line, _SHIFT)
        for leaf in foliage.get(group, ()):
            if _stamp(face, shade, leaf, camera, first + len(faces) + len(drawn)):
                drawn.append(leaf)
        if end > start and (present := np.unique(faces.owner[start:end]))[-1] >= 0:
            _count(face, owner_of, pixels[start:end], present, whole)
    return Raster(face, len(ground), faces, pixels, tuple(drawn), shade, whole)


def _count(
    face: NDArray[np.int32],
    owner_of: NDArray[np.intp],
    pixels: Float,
    present: NDArray[np.intp],
    whole: NDArray[np.intp],
) -> None:
    """Count the pixels of the owners that have just been drawn."""
    left, top = np.floor(pixels.min(axis=(0, 1))).astype(int) - 1
    right, bottom = np.ceil(pixels.max(axis=(0, 1))).astype(int) + 2
    region = face[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    owners = owner_of[region]
    for owner in present:
        if owner >= 0:
            whole[owner] = int(np.count_nonzero(owners == owner))


def _stamp(face: NDArray[np.int32], shade: NDArray[np.uint8], leaf: Crown, camera: Camera, number: int) -> bool:
    """Draw one crown; tell whether it is in the picture."""
    seen = camera.to_camera(np.array(leaf.position, np.float32))
    if seen[2] < NEAR_M:
        return False
    focal = camera.focal_px / float(seen[2])
    width, height = round(leaf.size_wh_m[0] * focal), round(leaf.size_wh_m[1] * focal)
    left = round(float(seen[0]) * focal + camera.centre_px[0] - width / 2)
    top = round(float(seen[1]) * focal + camera.centre_px[1] - height)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + width, face.shape[1]), min(top + height, face.shape[0])
    if x0 >= x1 or y0 >= y1 or min(width, height) < _SMALLEST_CROWN_PX:
        return False
    mask, light = crown(leaf.index)
    # Only the piece inside the picture is enlarged: a tree at the roadside may be larger than the picture.
    scale_x, scale_y = mask.shape[1] / width, mask.shape[0] / height
    if leaf.mirrored:
        matrix = np.array(
            [[-scale_x, 0, (left + width - x0 - 0.5) * scale_x - 0.5], [0, scale_y, (y0 - top + 0.5) * scale_y - 0.5]]
        )
    else:
        matrix = np.array(
            [[scale_x, 0, (x0 - left + 0.5) * scale_x - 0.5], [0, scale_y, (y0 - top + 0.5) * scale_y - 0.5]]
        )
    size, flags = (x1 - x0, y1 - y0), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    covered = cv2.warpAffine(mask, matrix, size, flags=flags) > 127
    face[y0:y1, x0:x1][covered] = number
    cv2.copyTo(
        cv2.warpAffine(light, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE),
        covered.view(np.uint8),
        shade[y0:y1, x0:x1],
    )
    return True
