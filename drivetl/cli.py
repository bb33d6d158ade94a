"""The entrance: ``drivetl VERB``. Errors become one sentence and an exit status here and nowhere else."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NoReturn

import typer

from drivetl import __version__
from drivetl.errors import DrivetlError, GateFailed, MissingExtraError
from drivetl.verbs._console import error_document, write_document

__all__ = ["app", "main"]

# In the order in which a user meets them.
_VERBS = (
    *("demo", "data", "weights", "train", "baseline", "evaluate", "compare", "export", "verify", "bench", "select"),
    *("video", "weather", "scenes", "run", "report", "doctor"),
)

_EXTRA_OF = {
    "torch": "train",
    "torchvision": "train",
    "ultralytics": "train",
    "onnx": "train",
    "onnxslim": "train",
    "faster_coco_eval": "train",
    "albumentations": "train",
    "jinja2": "report",
    "trackers": "video",
    "supervision": "video",
}

app = typer.Typer(
    name="drivetl",
    help="Take a COCO-pretrained YOLO to a new road, prove that it works there, and ship it to the car.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    # As wide as the terminal, so that the list of verbs is not cut off in the middle of its sentences.
    context_settings={"max_content_width": 120},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"drivetl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Take a COCO-pretrained YOLO to a new road, prove that it works there, and ship it to the car."""


for _name in _VERBS:
    import_module(f"drivetl.verbs.{_name}").register(app)


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 a gate failed, 2 bad input or usage, 130 interrupted."""
    verb = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    try:
        app()
    except DrivetlError as error:
        _fail(verb, str(error), error.exit_status, gate=isinstance(error, GateFailed))
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        missing = MissingExtraError(
            f"'drivetl {verb}' needs the package {error.name!r}; install it with: pip install 'drivetl[{extra}]'"
        )
        _fail(verb, str(missing), missing.exit_status)
    except KeyboardInterrupt:
        _fail(verb, "interrupted", 130)
    sys.exit(0)


def _fail(verb: str, message: str, exit_status: int, *, gate: bool = False) -> NoReturn:
    if "--json" in sys.argv:
        write_document(error_document(verb, message, exit_status))
    print(f"drivetl: {'failed' if gate else 'error'}: {message}", file=sys.stderr)
    sys.exit(exit_status)


if __name__ == "__main__":
    main()
