"""The verdict on a bundle, written into it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from drivetl.deploy.export import REPORT_FILE
from drivetl.deploy.parity import ParityResult
from drivetl.errors import BundleError, OutputError, quoted
from drivetl.files import read_limited, write_json
from drivetl.runtime import open_bundle
from drivetl.runtime.bundle import CONTRACT_FILE

__all__ = ["check_recordable", "record_verification"]

_REPORT_LIMIT_BYTES = 16 << 20


def check_recordable(bundle: Path) -> None:
    """Raise, before the work, what `record_verification` would raise after it.

    Raises:
        BundleError: the bundle cannot be used, or its report is no JSON mapping.
        OutputError: nothing can be written into the bundle.
    """
    open_bundle(bundle)
    _read_report(bundle / REPORT_FILE)
    try:
        # Permissions alone do not tell: the file system may be mounted for reading only.
        with tempfile.NamedTemporaryFile(prefix=".report-", dir=bundle):
            pass
    except OSError as error:
        raise OutputError(
            f"the verdict is written into the bundle, and {quoted(bundle)} cannot be written: "
            f"{error.strerror or error}; copy it to a place that can and verify the copy"
        ) from error


def record_verification(bundle: Path, result: ParityResult) -> None:
    """Write the result of a verification, good or bad, into ``contract.json`` and ``report.json`` of a bundle.

    Each file is replaced whole; the contract last, because it is what the car reads.

    Raises:
        BundleError: the bundle cannot be used, or its report is no JSON mapping.
        OutputError: a file cannot be written; what stood there is unchanged.
    """
    opened = open_bundle(bundle)
    report = _read_report(bundle / REPORT_FILE)
    verification = result.document()
    write_json(bundle / REPORT_FILE, {**report, "verification": verification}, overwrite=True)
    contract = replace(opened.contract, verification=verification)
    write_json(bundle / CONTRACT_FILE, contract.document(), overwrite=True)


def _read_report(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_limited(path, _REPORT_LIMIT_BYTES))
    except OSError as error:
        raise BundleError(f"cannot read {quoted(path)}: {error.strerror or error}; export the bundle again") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{quoted(path)} is not JSON: {quoted(error, 80)}; export the bundle again") from error
    if not isinstance(document, dict):
        raise BundleError(f"{quoted(path)} must hold a mapping; export the bundle again")
    return document
