"""From face numbers to linear light and depth: every pixel is shaded once, after everything is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.scenes.camera import Camera, Float
from drivetl.scenes.light import Light
from drivetl.scenes.raster import Raster
from drivetl.scenes.textures import TILE_PX, atlas, fractal_noise

__all__ = ["Look", "paint"]

_FINE_PX_M, _COARSE_PX_M = 48.0, 5.0
# Fitting a plane to corners closer together than this would let it run wild between them.
_STEADY_PX2 = 1.5
_BLOCK = 512


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
    return image, depth


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
    return cv2.resize(sky, (width, small_h * 2), interpolation=cv2.INTER_LINEAR)[:rows]


def _ground(face: NDArray[np.int32], camera: Camera, light: Light, look: Look, rows_m: tuple[Float, Float]) -> Float:
    """Return the ground's colour where it is seen (and anything elsewhere)."""
    depth, forward = rows_m
    height, width = face.shape
    albedo = np.zeros((len(look.ground_bgr) + 2, 3), np.float32)
    albedo[1:-1] = look.ground_bgr
    colour = albedo[np.minimum(face, len(albedo) - 1)]
    gain = _grain(camera, look, depth, forward, width)
    top = camera.size_hw[0] - height
    gain *= 1.0 - look.under[top:].astype(np.float32) * np.float32(0.85 / 255)
    colour *= gain[..., None]
    ambient = light.ambient[-1]
    if light.sunny:
        lit = 1.0 - look.shadow[top:].astype(np.float32) * np.float32(1 / 255)
        sun = light.sun_bgr * light.sun[1]
        colour *= cv2.merge([lit * float(sun[i]) + float(ambient[i]) for i in range(3)])
    else:
        colour *= ambient
    kept = np.exp(depth * np.float32(-light.extinction_per_m))[:, None, None]
    colour *= kept
    colour += light.horizon_bgr * (1 - kept)
    return colour


def _grain(camera: Camera, look: Look, depth: Float, forward: Float, width: int) -> Float:
    """Return the ground's unevenness of shade: stones near the camera, patches and tracks of wheels farther away."""
    aside = depth[:, None] * ((np.arange(width, dtype=np.float32) + 0.5 - width / 2) / np.float32(camera.focal_px))
    turn = math.radians(camera.yaw_deg)
    x = aside * np.float32(math.cos(turn)) + (forward * np.float32(math.sin(turn)))[:, None] + np.float32(camera.x_m)
    z = aside * np.float32(-math.sin(turn)) + (forward * np.float32(math.cos(turn)))[:, None] + np.float32(camera.z_m)
    result = np.ones_like(x)
    shown = forward < 200
    rng = np.random.default_rng([look.seed, 22])
    for pixels_m, strength, fades_m, coarsest in ((_FINE_PX_M, 0.13, 7.0, 8), (_COARSE_PX_M, 0.09, 70.0, 64)):
        tile = fractal_noise(int(rng.integers(4)), 512, coarsest, 0.8)
        # Wheels smear the road along its direction: the noise is stretched along z.
        stretch = pixels_m * (1.0 if coarsest < 16 else 0.25)
        period = 512 / stretch
        start = math.floor(float(z[-1].min()) / period) * period
        noise = cv2.remap(
            tile,
            np.clip(x[shown] * np.float32(pixels_m), -32000, 32000),
            np.clip((z[shown] - np.float32(start)) * np.float32(stretch), -32000, 32000),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )
        fade = strength * look.roughness * np.minimum(1.0, fades_m / forward[shown])
        result[shown] += noise * fade[:, None].astype(np.float32)
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


def _standing(raster: Raster, camera: Camera, light: Light, image: Float, depth: Float) -> None:
    """Shade everything that is neither sky nor ground."""
    faces, first = raster.faces, 1 + raster.ground
    flat = np.flatnonzero(raster.face.ravel() >= first)
    if not len(flat):
        return
    number = raster.face.ravel()[flat] - first
    width = camera.size_hw[1]
    v = (flat // width).astype(np.float32)
    u = (flat - (flat // width) * width).astype(np.float32) + np.float32(0.5)
    v += np.float32(0.5)
    inverse = 1 / faces.seen[..., 2:]
    table = np.concatenate(
        [_planes(raster.pixels, np.concatenate([faces.bgr, inverse], axis=2)), _crown_planes(raster, camera, light)]
    )
    value = table[:, 0][number]
    value += table[:, 1][number] * u[:, None]
    value += table[:, 2][number] * v[:, None]
    nearest = np.concatenate([inverse.max(axis=(1, 2)), table[len(faces) :, 0, 3]])
    farthest = np.concatenate([inverse.min(axis=(1, 2)), table[len(faces) :, 0, 3]])
    depth.ravel()[flat] = 1 / np.clip(value[:, 3], farthest[number], nearest[number])
    colour = np.maximum(value[:, :3], 0)
    _walls(raster, camera, number, (u, v), colour)
    leaves = np.flatnonzero(number >= len(faces))
    colour[leaves] *= (raster.crown_shade.ravel()[flat[leaves]] * np.float32(1 / 128))[:, None]
    image.reshape(-1, 3)[flat] = colour


def _crown_planes(raster: Raster, camera: Camera, light: Light) -> Float:
    result = np.zeros((len(raster.crowns), 3, 4), np.float32)
    if not raster.crowns:
        return result
    depth = np.array([camera.to_camera(np.array(leaf.position))[2] for leaf in raster.crowns], np.float32)
    sunlit = np.array([leaf.sunlit for leaf in raster.crowns], np.float32)[:, None]
    base = np.stack([leaf.bgr for leaf in raster.crowns])
    lit = base * (light.ambient[190] + light.sun_bgr * (0.5 * sunlit))
    result[:, 0, :3] = light.through_air(lit, depth)
    result[:, 0, 3] = 1 / depth
    return result


def _walls(
    raster: Raster, camera: Camera, number: NDArray[np.int32], pixel: tuple[Float, Float], colour: Float
) -> None:
    """Multiply the colours of pixels on textured quads by the atlas."""
    faces = raster.faces
    tile = np.concatenate([faces.tile, np.full(len(raster.crowns), -1, np.intp)])[number]
    index = np.flatnonzero(tile >= 0)
    if not len(index):
        return
    number = number[index]
    textured = np.flatnonzero(faces.tile >= 0)
    slot = np.zeros(len(faces), np.intp)
    slot[textured] = np.arange(len(textured))
    matrix, level = _homographies(raster, camera, textured)
    row = slot[number]
    x = (pixel[0][index] - np.float32(camera.centre_px[0])) / np.float32(camera.focal_px)
    y = (pixel[1][index] - np.float32(camera.centre_px[1])) / np.float32(camera.focal_px)
    s, t, w = (matrix[:, i, 0][row] * x + matrix[:, i, 1][row] * y + matrix[:, i, 2][row] for i in range(3))
    s, t = s / w, t / w
    sheet, places = atlas()
    corner = places[faces.tile[textured], level].astype(np.float32)[row]
    side = (TILE_PX >> level).astype(np.float32)[row]
    map_x = corner[:, 0] + (s - np.floor(s)) * (side - 1)
    map_y = corner[:, 1] + (1 - (t - np.floor(t))) * (side - 1)
    rows = -(-len(index) // _BLOCK)
    maps = np.zeros((2, rows * _BLOCK), np.float32)
    maps[0, : len(index)], maps[1, : len(index)] = map_x, map_y
    texel = cv2.remap(sheet, maps[0].reshape(rows, _BLOCK), maps[1].reshape(rows, _BLOCK), cv2.INTER_LINEAR)
    share = texel.reshape(-1, 3)[: len(index)].astype(np.float32) * np.float32(1 / 255)
    colour[index] *= share * share


def _homographies(raster: Raster, camera: Camera, textured: NDArray[np.intp]) -> tuple[Float, NDArray[np.intp]]:
    """Return matrices (n, 3, 3) from rays (x, y, 1) to texture coordinates, and which size of the tile to take."""
    faces = raster.faces
    corner, along, up = (faces.edges[textured, i] for i in range(3))
    repeat = faces.repeat[textured]
    normal = np.cross(along, up)
    offset = (normal * corner).sum(axis=1)
    rows = []
    for side, count in ((along, repeat[:, 0]), (up, repeat[:, 1])):
        axis = side * (count / (side * side).sum(axis=1))[:, None]
        rows.append(offset[:, None] * axis - (corner * axis).sum(axis=1)[:, None] * normal)
    # Tile pixels a picture pixel steps over, at the quad's nearest corner.
    nearest = np.maximum(faces.seen[textured, :, 2].min(axis=1), 1.0)
    density = TILE_PX * repeat[:, 1] / np.sqrt((up * up).sum(axis=1)) * nearest / camera.focal_px
    level = np.clip(np.rint(np.log2(np.maximum(density, 1.0) * 1.5)), 0, 3).astype(np.intp)
    return np.stack([*rows, normal], axis=1).astype(np.float32), level
