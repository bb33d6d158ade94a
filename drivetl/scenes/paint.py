"""From face numbers to linear light and depth: every pixel is shaded once, after everything is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.scenes.camera import Camera, Float, f32
from drivetl.scenes.faces import NEAR_M
from drivetl.scenes.light import Light
from drivetl.scenes.raster import Raster
from drivetl.scenes.textures import TILE_PX, fractal_noise, wall_tiles

__all__ = ["Look", "paint"]

# Fitting a plane to corners closer together than this would let it run wild between them.
_STEADY_PX2 = 1.5
# The nearest so many walls have windows, if so many of their pixels show.
_MOST_WALLS, _SMALLEST_WALL_PX = 255, 24
_STRIP = 54
_REMAINS = 1 - np.arange(256, dtype=np.float32) * np.float32(0.85 / 255)
_LIT = 1 - np.arange(256, dtype=np.float32) / 255
_SQUARES = (np.arange(256, dtype=np.float32) / 255) ** 2

Double = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What a scene looks like where no mesh is.

    Attributes:
        ground_bgr: float32 (polygons, 3), linear share of light that each ground polygon gives back.
        shadow: uint8 (height, width), 255 where the sun does not reach the ground.
        under: uint8 (height, width), 255 where hardly any sky reaches it: below cars.
        seed: chooses clouds and the grain of the road.
        roughness: how strong the grain of the ground is.
    """

    ground_bgr: Float
    shadow: NDArray[np.uint8]
    under: NDArray[np.uint8]
    seed: int
    roughness: float


def paint(raster: Raster, camera: Camera, light: Light, look: Look) -> tuple[Float, Float]:
    """Return linear light in BGR, float32 (height, width, 3), and depth in metres, float32 (height, width)."""
    height, width = camera.size_hw
    image = np.empty((height, width, 3), np.float32)
    depth = np.full((height, width), np.inf, np.float32)
    first, ground_depth, forward = camera.ground_rows()
    image[:first] = _sky(camera, light, look.seed, first)
    if first < height:
        image[first:] = _ground(raster.face[first:], camera, light, look, (ground_depth, forward))
        depth[first:] = ground_depth[:, None]
    _standing(raster, camera, light, image, depth)
    # A quad's colours are planes, so beside its corners they may be a little below zero.
    return np.maximum(image, 0, out=image), depth


def _standing(raster: Raster, camera: Camera, light: Light, image: Float, depth: Float) -> None:
    """Lay everything that stands over sky and ground, strip by strip: a strip stays in the processor's cache."""
    faces = raster.faces
    values = np.concatenate([faces.bgr, 1 / faces.seen[..., 2:]], axis=2)
    ground = np.zeros((1 + raster.ground, 3, 4), np.float32)
    planes = np.concatenate([ground, _planes(raster.pixels, values), _crown_planes(raster, camera, light)])
    start, per_x, per_y = (np.ascontiguousarray(planes[:, i]) for i in range(3))
    texture = _walls(raster, camera)
    across, down = _pixel_grids(_STRIP, camera.size_hw[1])
    for top in range(0, camera.size_hw[0], _STRIP):
        face = raster.face[top : top + _STRIP]
        standing = cv2.compare(face, raster.ground, cv2.CMP_GT)  # type: ignore[call-overload]
        if not cv2.countNonZero(standing):
            continue
        number, rows = face.astype(np.intp), len(face)
        value = np.take(start + per_y * np.float32(top), number, axis=0, mode="clip")
        for slopes, grid in ((per_x, across), (per_y, down)):
            slope = np.take(slopes, number, axis=0, mode="clip")
            cv2.add(value, cv2.multiply(slope, grid[:rows], dst=slope), dst=value)
        colour = cv2.cvtColor(value, cv2.COLOR_BGRA2BGR)
        cv2.multiply(colour, cv2.LUT(texture[top : top + rows], _SQUARES), dst=colour)
        cv2.copyTo(colour, standing, image[top : top + rows])
        inverse = np.clip(f32(cv2.extractChannel(value, 3)), np.float32(1e-3), np.float32(1 / NEAR_M))
        cv2.copyTo(np.reciprocal(inverse, out=inverse), standing, depth[top : top + rows])


def _sky(camera: Camera, light: Light, seed: int, rows: int) -> Float:
    """Return the sky above the horizon, from half resolution: clouds are soft."""
    width = camera.size_hw[1]
    small_h, small_w = max(2, (rows + 1) // 2), max(2, width // 2)
    up = (camera.horizon_px - 2 * np.arange(small_h, dtype=np.float32)[:, None] - 1) / np.float32(camera.focal_px)
    up = np.maximum(up, 0)
    rise = np.clip(up / np.float32(0.75), 0, 1) ** np.float32(0.55)
    sky = light.horizon_bgr + (light.zenith_bgr - light.horizon_bgr) * rise[..., None]
    sky = np.repeat(sky, small_w, axis=1).astype(np.float32)
    rng = np.random.default_rng([seed, 21])
    noise = fractal_noise(int(rng.integers(4)), 512, 128, 0.62)
    # A flat ceiling of clouds: what is low in the sky is far away and foreshortened.
    reach = np.float32(rng.uniform(25, 60)) / (up + np.float32(0.09))
    aside = (np.arange(small_w, dtype=np.float32)[None, :] * 2 - width / 2) / np.float32(camera.focal_px)
    offset = rng.uniform(0, 512, 2)
    map_x = (aside * reach + np.float32(offset[0])).astype(np.float32)
    map_y = np.broadcast_to(reach + np.float32(offset[1]), map_x.shape).astype(np.float32)
    clouds = cv2.remap(noise, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    edge = np.float32(1.6 - 3.0 * light.cloud_cover)
    cover = np.clip((clouds - edge) * np.float32(0.8), 0, 1) * np.clip(up * 9, 0, 1)
    grey = light.horizon_bgr * 0.92 + light.sun_bgr * 0.06
    body = (1.0 - np.clip(clouds - edge - 0.8, 0, 2) * 0.13)[..., None] * grey
    sky += (body - sky) * (cover * np.float32(0.9))[..., None]
    return f32(cv2.resize(sky, (width, small_h * 2), interpolation=cv2.INTER_LINEAR)[:rows])


def _ground(face: NDArray[np.int32], camera: Camera, light: Light, look: Look, rows_m: tuple[Float, Float]) -> Float:
    """Return the ground's colour where it is seen (and anything elsewhere)."""
    depth, forward = rows_m
    height, width = face.shape
    albedo = np.zeros((len(look.ground_bgr) + 2, 3), np.float32)
    albedo[1:-1] = look.ground_bgr
    colour = np.take(albedo, face.astype(np.intp), axis=0, mode="clip")
    gain = _grain(camera, look, depth, forward, width)
    top = camera.size_hw[0] - height
    cv2.multiply(gain, cv2.LUT(look.under[top:], _REMAINS), dst=gain)
    kept = np.exp(depth * np.float32(-light.extinction_per_m))
    gain *= kept[:, None]
    ambient = light.ambient[-1]
    if light.sunny:
        lit = cv2.multiply(gain, cv2.LUT(look.shadow[top:], _LIT))
        sun = light.sun_bgr * light.sun[1]
        gains = [cv2.addWeighted(lit, float(sun[i]), gain, float(ambient[i]), 0) for i in range(3)]
    else:
        gains = [gain * ambient[i] for i in range(3)]
    cv2.multiply(colour, cv2.merge(gains), dst=colour)
    veil = f32((1 - kept)[:, None, None] * light.horizon_bgr)
    return f32(cv2.add(colour, cv2.resize(veil, (width, height), interpolation=cv2.INTER_NEAREST), dst=colour))


def _grain(camera: Camera, look: Look, depth: Float, forward: Float, width: int) -> Float:
    """Return the ground's unevenness of shade: stones near the camera, patches and tracks of wheels farther away."""
    turn = math.radians(camera.yaw_deg)
    cos, sin = np.float32(math.cos(turn)), np.float32(math.sin(turn))
    result = np.ones((len(depth), width), np.float32)
    rng = np.random.default_rng([look.seed, 22])
    layers = ((48.0, 0.1, 5.0, 8, 11.0, 1), (24.0, 0.05, 14.0, 4, 40.0, 2), (4.0, 0.035, 60.0, 64, 150.0, 4))
    for pixels_m, strength, fades_m, coarsest, until_m, step in layers:
        tile = fractal_noise(int(rng.integers(4)), 512, coarsest, 0.8)
        first = int(np.searchsorted(-forward, -until_m))
        rows = np.arange(first, len(depth), step)
        if not len(rows):
            continue
        columns = (np.arange(0, width, step, dtype=np.float32) + np.float32(step / 2 - width / 2)) / np.float32(
            camera.focal_px
        )
        # Wheels smear the road along its direction: large patches are stretched along z.
        stretch = pixels_m * (1.0 if coarsest < 16 else 0.25)
        period = 512 / stretch
        away = np.float32(camera.z_m - math.floor(camera.z_m / period) * period)
        near, ahead = depth[rows][:, None], forward[rows][:, None]
        x = (near * columns * cos + ahead * sin + np.float32(camera.x_m)) * np.float32(pixels_m)
        z = (ahead * cos - near * columns * sin + away) * np.float32(stretch)
        noise = cv2.remap(tile, np.clip(x, -32000, 32000), z, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        noise *= (strength * look.roughness * np.minimum(1.0, fades_m / forward[rows])).astype(np.float32)[:, None]
        if step > 1:
            noise = cv2.resize(noise, (width, len(depth) - first), interpolation=cv2.INTER_LINEAR)
        result[first:] += noise
    return np.maximum(result, np.float32(0.3))


def _planes(pixels: Float, values: Float) -> Float:
    """Return the planes (n, 3, c) through values (n, 4, c) at pixels (n, 4, 2): at pixel (0, 0), per x, per y."""
    middle = pixels.mean(axis=1, keepdims=True)
    p = (pixels - middle).astype(np.float64)
    mean = values.mean(axis=1, keepdims=True)
    xx, xy, yy = (p[..., 0] ** 2).sum(1), (p[..., 0] * p[..., 1]).sum(1), (p[..., 1] ** 2).sum(1)
    right = np.einsum("nij,nic->njc", p, values - mean)
    xx, yy = xx + _STEADY_PX2, yy + _STEADY_PX2
    det = (xx * yy - xy * xy)[:, None]
    across = (yy[:, None] * right[:, 0] - xy[:, None] * right[:, 1]) / det
    down = (xx[:, None] * right[:, 1] - xy[:, None] * right[:, 0]) / det
    zero = mean[:, 0] - across * middle[:, 0, :1] - down * middle[:, 0, 1:]
    return np.stack([zero, across, down], axis=1).astype(np.float32)


@lru_cache(maxsize=4)
def _pixel_grids(height: int, width: int) -> tuple[Float, Float]:
    """Return the middles of a strip's pixels, x and y, each four times over, float32 (height, width, 4)."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) + np.float32(0.5)
    return np.repeat(x[..., None], 4, axis=2), np.repeat(y[..., None], 4, axis=2)


def _crown_planes(raster: Raster, camera: Camera, light: Light) -> Float:
    result = np.zeros((len(raster.crowns), 3, 4), np.float32)
    if not raster.crowns:
        return result
    depth = camera.to_camera(np.array([leaf.position for leaf in raster.crowns]))[:, 2]
    sunlit = np.array([leaf.sunlit for leaf in raster.crowns], np.float32)[:, None]
    base = np.stack([leaf.bgr for leaf in raster.crowns])
    lit = base * (light.ambient[190] + light.sun_bgr * (0.5 * sunlit))
    # Twice, because the shade is stored as a share of 2.
    result[:, 0, :3] = light.through_air(lit, depth) * 2
    result[:, 0, 3] = 1 / depth
    return result


def _walls(raster: Raster, camera: Camera) -> NDArray[np.uint8]:
    """Return what every pixel's colour is multiplied by, as a square root, uint8 (height, width, 3)."""
    height, width = raster.face.shape
    texture = np.full((height, width, 3), 255, np.uint8)
    faces, first = raster.faces, 1 + raster.ground
    textured = np.flatnonzero(faces.tile >= 0)[-_MOST_WALLS:]
    if len(textured):
        label = np.zeros(first + len(faces) + len(raster.crowns), np.uint8)
        label[first + textured] = np.arange(1, len(textured) + 1)
        wall = np.take(label, raster.face, mode="clip")
        matrices, levels = _homographies(raster, camera, textured)
        low = np.maximum(np.floor(raster.pixels[textured].min(axis=1)).astype(int) - 1, 0).tolist()
        high = np.ceil(raster.pixels[textured].max(axis=1)).astype(int) + 1
        high = np.minimum(high, (width, height)).tolist()
        shown = np.bincount(wall.ravel(), minlength=len(textured) + 1)[1:]
        for index in np.flatnonzero(shown >= _SMALLEST_WALL_PX).tolist():
            (left, top), (right, bottom) = low[index], high[index]
            seen = cv2.inRange(wall[top:bottom, left:right], index + 1, index + 1)
            # Most walls are hidden for the most part; only what shows is worth painting.
            column, row, wide, tall = cv2.boundingRect(seen)
            left, top, seen = left + column, top + row, seen[row : row + tall, column : column + wide]
            shift = np.array([[1, 0, left], [0, 1, top], [0, 0, 1]], np.float64)
            picture = cv2.warpPerspective(
                wall_tiles()[int(faces.tile[textured[index]])][int(levels[index])],
                matrices[index] @ shift,
                (wide, tall),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_WRAP,
            )
            cv2.copyTo(picture, seen, texture[top : top + tall, left : left + wide])
    if raster.crowns:
        leaves = (raster.face >= first + len(faces)).view(np.uint8)
        cv2.copyTo(cv2.merge([raster.crown_shade] * 3), leaves, texture)
    return texture


def _homographies(raster: Raster, camera: Camera, textured: NDArray[np.intp]) -> tuple[Double, NDArray[np.intp]]:
    """Return matrices (n, 3, 3) from pixels (x, y, 1) to pixels of the tile, and which size of the tile to take."""
    faces = raster.faces
    corner, along, up = (faces.edges[textured, i].astype(np.float64) for i in range(3))
    repeat = faces.repeat[textured]
    # Tile pixels a picture pixel steps over, at the quad's nearest corner.
    nearest = np.maximum(faces.seen[textured, :, 2].min(axis=1), 1.0)
    density = TILE_PX * repeat[:, 1] / np.sqrt((up * up).sum(axis=1)) * nearest / camera.focal_px
    level = np.clip(np.rint(np.log2(np.maximum(density, 1.0) * 1.5)), 0, 3).astype(np.intp)
    side = (TILE_PX >> level).astype(np.float64)
    normal = np.cross(along, up)
    offset = (normal * corner).sum(axis=1)
    rows = []
    for edge, count in ((along, repeat[:, 0]), (-up, repeat[:, 1])):
        axis = edge * (count * side / (edge * edge).sum(axis=1))[:, None]
        rows.append(offset[:, None] * axis - (corner * axis).sum(axis=1)[:, None] * normal)
    # Rows of a tile run downwards and its foot is at the wall's foot: start one tile up, which repeats anyway.
    centre = camera.centre_px
    rays = np.array(
        [
            [1 / camera.focal_px, 0, (0.5 - centre[0]) / camera.focal_px],
            [0, 1 / camera.focal_px, (0.5 - centre[1]) / camera.focal_px],
            [0, 0, 1],
        ]
    )
    return np.stack([*rows, normal], axis=1) @ rays, level
