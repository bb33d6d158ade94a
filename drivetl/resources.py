"""Where the shipped YAML lies: in a source tree at the top level, in a wheel inside the package."""

from __future__ import annotations

from pathlib import Path

from drivetl.errors import ConfigError, quoted

__all__ = ["resource_dir", "resource_file"]

_PACKAGE = Path(__file__).resolve().parent


def resource_dir(kind: str) -> Path:
    """Return the folder of shipped files of one kind: ``datasets``, ``configs`` or ``export/profiles``."""
    packed = _PACKAGE / "resources" / kind
    return packed if packed.is_dir() else _PACKAGE.parent / kind


def resource_file(kind: str, name: str) -> Path:
    """Return a shipped YAML by its name without ending.

    Raises:
        ConfigError: no such file; the message lists what there is.
    """
    folder = resource_dir(kind)
    path = folder / f"{name}.yaml"
    if Path(name).name != name or not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none"
        raise ConfigError(f"there is no {kind} entry {quoted(name)}; known: {known}")
    return path
