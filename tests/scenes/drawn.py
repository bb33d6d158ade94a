from __future__ import annotations

from functools import lru_cache

from drivetl.scenes import SceneFrame, load_preset, render_scene

SMALL_HW = (270, 480)


@lru_cache(maxsize=128)
def scene(preset: str, seed: int) -> SceneFrame:
    """Render a small scene once for all tests."""
    return render_scene(load_preset(preset), seed=seed, size_hw=SMALL_HW)
