"""The three rules of the design, read from the imports of every module, functions included; and what is too long."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "drivetl"
HEAVY = {"torch", "torchvision", "ultralytics"}
MAY_BE_HEAVY = {"yolo", "adapt"}
STAGES = {"adapt", "evaluate", "deploy", "video", "report"}
HELPERS = {"data", "weather", "scenes", "yolo"}
ENTRANCE = {"cli", "verbs", "doctor", "__main__"}
# It holds the Albumentations classes, loads on first use, and albumentations itself imports torch where it finds it.
ON_FIRST_USE = "drivetl.weather.transforms"


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _part(module: str) -> str:
    """Return the folder or file directly below the package: ``drivetl.data.labels`` gives ``data``."""
    return [*module.split("."), ""][1]


def imports_of(source: str, module: str, is_package: bool) -> Iterator[str]:
    """Yield every module that the source imports anywhere, under its full name."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join((*above, base)).rstrip(".")
            # `from drivetl import data` imports a module, `from drivetl.data import x` may; both are seen.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _imports(module: str) -> set[str]:
    path = MODULES[module]
    return set(imports_of(path.read_text(encoding="utf-8"), module, path.name == "__init__.py"))


def test_the_walk_sees_every_kind_of_import() -> None:
    source = "import a.b\nfrom . import c\nfrom ..d import e\ndef f():\n    from g import h\n    import torch\n"
    assert set(imports_of(source, "drivetl.x.y", False)) == {"a.b", "drivetl.x.c", "drivetl.d.e", "g.h", "torch"}
    assert "drivetl.x.y.c" in set(imports_of(source, "drivetl.x.y", True))
    assert len(MODULES) > 40


@pytest.mark.parametrize("module", [name for name in MODULES if _part(name) not in MAY_BE_HEAVY])
def test_rule_1_only_yolo_and_adapt_import_torch_and_ultralytics(module: str) -> None:
    assert not {name for name in _imports(module) if name.partition(".")[0] in HEAVY}


def test_rule_1_importing_every_other_module_loads_neither() -> None:
    names = [name for name in MODULES if _part(name) not in {*MAY_BE_HEAVY, "__main__"} and name != ON_FIRST_USE]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = {HEAVY!r} & set(sys.modules)\n"
        "    assert not loaded, f'{name} loads {loaded}'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", [name for name in MODULES if _part(name) == "runtime"])
def test_rule_2_the_runtime_imports_only_what_the_car_has(module: str) -> None:
    for name in _imports(module):
        top = name.partition(".")[0]
        allowed = top in sys.stdlib_module_names | {"numpy", "cv2", "onnxruntime"}
        assert allowed or _part(name) in ("runtime", "errors"), f"{module} imports {name}"


@pytest.mark.parametrize("module", ["drivetl.errors", "drivetl.containers", "drivetl.file_url"])
def test_rule_2_what_the_vehicle_program_takes_beside_the_runtime_is_standard_library_only(module: str) -> None:
    names = {name for name in _imports(module) if _part(name) != "errors"}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.parametrize("module", [name for name in MODULES if _part(name) in STAGES])
def test_rule_3_stages_never_import_each_other(module: str) -> None:
    others = (STAGES | ENTRANCE) - {_part(module)}
    assert not {name for name in _imports(module) if name.startswith("drivetl.") and _part(name) in others}


@pytest.mark.parametrize("module", [name for name in MODULES if _part(name) in HELPERS])
def test_rule_3_helpers_never_import_stages(module: str) -> None:
    above = STAGES | ENTRANCE
    assert not {name for name in _imports(module) if name.startswith("drivetl.") and _part(name) in above}


@pytest.mark.parametrize(
    "module", [name for name in MODULES if _part(name) not in STAGES | HELPERS | ENTRANCE | {"runtime", ""}]
)
def test_rule_3_the_foundation_imports_nothing_above_it(module: str) -> None:
    above = STAGES | HELPERS | ENTRANCE | {"runtime"}
    assert not {name for name in _imports(module) if name.startswith("drivetl.") and _part(name) in above}


def test_rule_3_every_folder_has_its_place() -> None:
    known = STAGES | HELPERS | ENTRANCE | {"runtime"}
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders <= known


@pytest.mark.parametrize("module", MODULES)
def test_no_file_is_over_350_lines_and_no_function_over_60(module: str) -> None:
    source = MODULES[module].read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 350
    functions = (
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert not {node.name for node in functions if (node.end_lineno or 0) - node.lineno + 1 > 60}
