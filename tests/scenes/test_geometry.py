"""Camera, drawing order and depth against independent geometry."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drivetl.scenes import Camera, known_presets, load_preset
from drivetl.scenes import render as rendering
from drivetl.scenes.faces import Instance, seen_faces
from drivetl.scenes.light import sample_light
from drivetl.scenes.mesh import MeshBuilder, Slot
from drivetl.scenes.order import far_to_near
from drivetl.scenes.presets import LightPreset
from drivetl.scenes.raster import Raster, rasterise
from drivetl.scenes.roads import Patch
from drivetl.scenes.shadows import ground_polygons
from drivetl.scenes.things import palette

from .drawn import SMALL_HW, scene

# Every pixel that a polygon touches is its own; corners are rounded to a sixteenth.
_PIXEL = 1 + 1 / 16
CAMERAS = [
    Camera((540, 960), 650.0, 1.5),
    Camera((540, 960), 800.0, 1.2, pitch_deg=4.0, yaw_deg=3.0, x_m=1.7, z_m=12.0),
    Camera((300, 400), 250.0, 2.4, pitch_deg=-3.0, yaw_deg=-4.0, x_m=-3.0),
]


def _by_hand(camera: Camera, point: tuple[float, float, float]) -> tuple[float, float, float]:
    """Project one point step by step: turn to the heading, tilt, divide."""
    x, y, z = point[0] - camera.x_m, point[1] - camera.height_m, point[2] - camera.z_m
    yaw, pitch = np.radians(camera.yaw_deg), np.radians(camera.pitch_deg)
    x, z = x * np.cos(yaw) - z * np.sin(yaw), x * np.sin(yaw) + z * np.cos(yaw)
    down, ahead = -y * np.cos(pitch) - z * np.sin(pitch), z * np.cos(pitch) - y * np.sin(pitch)
    return (
        camera.size_hw[1] / 2 + camera.focal_px * x / ahead,
        camera.size_hw[0] / 2 + camera.focal_px * down / ahead,
        ahead,
    )


@pytest.mark.parametrize("camera", CAMERAS)
def test_projection_matches_the_pinhole_by_hand(camera: Camera) -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        point = (float(rng.uniform(-8, 8)), float(rng.uniform(0, 5)), camera.z_m + float(rng.uniform(3, 80)))
        pixel, depth = camera.project(point)
        assert (*pixel, depth) == pytest.approx(_by_hand(camera, point), abs=2e-2, rel=1e-4)


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_known_box_is_drawn_where_its_corners_project(camera: Camera) -> None:
    light = sample_light(LightPreset(), np.random.default_rng(0))
    rng = np.random.default_rng(2)
    tried = 0
    for _ in range(40):
        low = np.array([rng.uniform(-4, 4), rng.uniform(0, 1), camera.z_m + rng.uniform(6, 40)])
        high = low + rng.uniform(0.3, 2.0, 3)
        corners = np.array([(x, y, z) for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
        pixels = np.array([_by_hand(camera, tuple(corner))[:2] for corner in corners])
        if pixels.min() < 2 or (pixels > np.array(camera.size_hw[::-1]) - 2).any():
            continue
        tried += 1
        mesh = MeshBuilder().box(low, high, Slot.PAINT).build()
        faces = seen_faces([Instance(mesh, (0, 0, 0), palette({}), 0, owner=0)], camera, light)
        raster = rasterise(camera, [], faces, (), [0], 1)
        rows, columns = np.nonzero(raster.face)
        drawn = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert drawn == pytest.approx(np.concatenate([pixels.min(axis=0), pixels.max(axis=0)]), abs=_PIXEL)
        assert raster.whole[0] == len(rows)
    assert tried > 8


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_patch_on_the_ground_is_drawn_where_its_corners_project(camera: Camera) -> None:
    corners = [(0.5, 8.0), (2.0, 8.0), (2.0, 14.0), (0.5, 14.0)]
    points = np.array(corners, np.float32) + np.array([camera.x_m, camera.z_m], np.float32)
    polygons, _ = ground_polygons([Patch(points, np.ones(3, np.float32))], camera)
    mask = np.zeros(camera.size_hw, np.uint8)
    cv2.fillConvexPoly(mask, polygons[-1], 1, cv2.LINE_8, 4)
    rows, columns = np.nonzero(mask)
    pixels = np.array([_by_hand(camera, (float(x), 0.0, float(z)))[:2] for x, z in points])
    pixels = np.clip(pixels, 0, camera.size_hw[::-1])
    drawn = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert drawn == pytest.approx((*pixels.min(axis=0), *pixels.max(axis=0)), abs=_PIXEL)


@pytest.mark.parametrize("preset", known_presets())
def test_depth_falls_down_the_road_and_is_the_plane(preset: str) -> None:
    for seed in range(4):
        frame = scene(preset, seed)
        camera = frame.camera
        # The camera's own lane, straight ahead of it.
        ahead = np.linspace(5, 60, 400)
        pixels, depth = camera.project(np.column_stack([np.full(400, camera.x_m), np.zeros(400), camera.z_m + ahead]))
        inside = (pixels[:, 1] < frame.depth_m.shape[0] - 1) & (pixels[:, 0] >= 0) & (pixels[:, 0] < 480)
        row, column = pixels[inside, 1].astype(int), pixels[inside, 0].astype(int)
        free = frame.track_ids[row, column] < 0
        seen = frame.depth_m[row, column]
        assert free.sum() > 20
        # A row of pixels spans a range of depths; its middle is what is stored.
        span = depth[inside] ** 2 / (camera.focal_px * camera.height_m)
        assert (np.abs(seen - depth[inside])[free] <= 0.75 * span[free] + 0.02).all()
        rows = np.unique(row[free])
        down_the_picture = np.array([seen[free][row[free] == r][0] for r in rows])
        assert (np.diff(down_the_picture) < 0).all()


def test_what_a_ray_meets_first_is_drawn_last() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        boxes: list[tuple[float, float, float, float]] = []
        while len(boxes) < 25:
            x, z, w, d = rng.uniform(-20, 20), rng.uniform(2, 60), rng.uniform(0.3, 6), rng.uniform(0.3, 12)
            box = (x, x + w, z, z + d)
            if all(box[0] > b[1] or box[1] < b[0] or box[2] > b[3] or box[3] < b[2] for b in boxes):
                boxes.append(box)
        array = np.array(boxes, np.float32)
        place = np.argsort(far_to_near(array, (0.5, 0.0), np.zeros(25, np.float32)))
        wrong = met = 0
        for slope in np.linspace(-0.9, 0.9, 300):
            # The ray x = 0.5 + slope z meets a box between the larger entry and the smaller exit.
            with np.errstate(divide="ignore"):
                a, b = (array[:, 0] - 0.5) / slope, (array[:, 1] - 0.5) / slope
            enter = np.maximum(np.minimum(a, b), array[:, 2])
            leave = np.minimum(np.maximum(a, b), array[:, 3])
            hit = np.flatnonzero((enter < leave) & (leave > 0))
            order = hit[np.argsort(enter[hit])]
            met += max(0, len(order) - 1)
            wrong += int((np.diff(place[order]) > 0).sum())
        assert met > 50
        assert wrong == 0


def _nearest_group(raster: Raster) -> NDArray[np.intp]:
    """Return what a depth buffer finds at every pixel: the quad with the largest inverse depth."""
    height, width = raster.face.shape
    nearest = np.zeros((height, width), np.float64)
    group = np.full((height, width), -1, np.intp)
    y, x = np.mgrid[0:height, 0:width] + 0.5
    for index in range(len(raster.faces)):
        seen = raster.faces.seen[index].astype(np.float64)
        mask = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(mask, np.rint((raster.pixels[index] - 0.5) * 16).astype(np.int32), 1, cv2.LINE_8, 4)
        rows, columns = np.nonzero(mask)
        # The plane 1/z = a x + b y + c through the corners; what is seen edge-on takes their mean.
        points = np.column_stack([raster.pixels[index], np.ones(4)]).astype(np.float64)
        plane, *_ = np.linalg.lstsq(points, 1 / seen[:, 2], rcond=1e-6)
        inverse = plane[0] * x[rows, columns] + plane[1] * y[rows, columns] + plane[2]
        inverse = np.clip(inverse, (1 / seen[:, 2]).min(), (1 / seen[:, 2]).max())
        closer = inverse > nearest[rows, columns]
        nearest[rows[closer], columns[closer]] = inverse[closer]
        group[rows[closer], columns[closer]] = raster.faces.group[index]
    return group


def test_drawing_far_to_near_agrees_with_a_depth_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Raster] = []

    def without_crowns(camera: Camera, ground: object, faces: object, crowns: object, *rest: object) -> Raster:
        drawn.append(rasterise(camera, ground, faces, (), *rest))  # type: ignore[arg-type]
        return drawn[-1]

    monkeypatch.setattr(rendering, "rasterise", without_crowns)
    same = total = 0
    for preset in known_presets():
        for seed in range(2):
            rendering.render_scene(load_preset(preset), seed=seed, size_hw=SMALL_HW)
            raster = drawn[-1]
            groups = np.concatenate([np.full(1 + raster.ground, -1), raster.faces.group])[raster.face]
            found = _nearest_group(raster)
            standing = (groups >= 0) | (found >= 0)
            same, total = same + int((groups == found)[standing].sum()), total + int(standing.sum())
    assert total > 100_000
    assert same / total > 0.98, f"{same / total:.4f} of the pixels agree"
