"""Shared fixtures: the real material beside the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def material() -> Path:
    """The folder of real pictures, weights and video that DRIVETL_MATERIAL names."""
    folder = (PROJECT / os.environ.get("DRIVETL_MATERIAL", "../shared")).resolve()
    if not folder.is_dir():
        pytest.skip(f"needs real material: DRIVETL_MATERIAL names {folder}, which does not exist")
    return folder
