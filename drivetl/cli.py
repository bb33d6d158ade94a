"""The entrance: ``drivetl VERB``. Errors become one sentence and an exit status here and nowhere else."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn, cast

import typer
from typer.core import TyperGroup

from drivetl import __version__
from drivetl.errors import DrivetlError, GateFailed, MissingExtraError, quoted
from drivetl.verbs._console import document_written, error_document, expect_document, write_document

__all__ = ["app", "main"]

# In the order in which a user meets them.
_VERBS = (
    *("demo", "data", "weights", "train", "baseline", "evaluate", "compare", "export", "verify", "bench", "select"),
    *("video", "weather", "scenes", "run", "report", "doctor"),
)

# EX_SOFTWARE of sysexits.h. Python's own status 1 would say that a gate failed.
_DEFECT = 70

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


# What a shell reports of a program that SIGPIPE ended (128 + 13).
_READER_GONE = 141


# Typer brings its own click, so this is not the class of the package of that name.
_UsageError = cast("type[Exception]", typer.BadParameter.__bases__[0])


class _ReaderGoneError(Exception):
    """Whoever read the output has stopped, as ``| head`` does."""


class _InterruptedError(Exception):
    """Ctrl-C was pressed."""


class _Verbs(TyperGroup):
    # Typer itself exits with 1 for a broken pipe and for an EOFError, which would say that a gate failed, and at Ctrl-C
    # without a word, so that with --json there would be no document.

    def make_context(self, *arguments: Any, **named: Any) -> Any:
        try:
            return super().make_context(*arguments, **named)
        except _UsageError as error:
            _document_usage(error)
            raise
        except BrokenPipeError as error:
            raise _ReaderGoneError from error
        except KeyboardInterrupt as error:
            raise _InterruptedError from error

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            _document_usage(error)
            raise
        except BrokenPipeError as error:
            raise _ReaderGoneError from error
        except KeyboardInterrupt as error:
            raise _InterruptedError from error
        except EOFError as error:
            # It takes it for a terminal that was closed at a prompt.
            raise RuntimeError("a file or stream ended early") from error


app = typer.Typer(
    name="drivetl",
    cls=_Verbs,
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


def main(*, interrupted: bool = False) -> NoReturn:
    """Run the command line and exit; ``interrupted``: Ctrl-C was pressed already, so only say that.

    0 done, 1 a gate failed, 2 bad input or usage, 70 a defect, 130 interrupted, 141 nobody reads the output any more;
    128 + the signal where SIGTERM or SIGHUP ended a recipe or a video.
    """
    verb = _verb()
    expect_document()
    try:
        if interrupted:
            raise KeyboardInterrupt
        app()
    except DrivetlError as error:
        _fail(verb, str(error), error.exit_status, gate=isinstance(error, GateFailed))
    except OSError as error:
        _fail(verb, _refusal(error), DrivetlError.exit_status)
    except _ReaderGoneError:
        # What is still held back for stdout would fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        print("drivetl: the reader of the output has gone", file=sys.stderr)
        sys.exit(_READER_GONE)
    except (KeyboardInterrupt, _InterruptedError):
        _fail(verb, "interrupted", 130)
    except Exception as error:  # noqa: BLE001 - the last resort, which hides nothing
        missing = _missing_extra(verb, error)
        if missing is not None:
            _fail(verb, str(missing), missing.exit_status)
        traceback.print_exc()
        reason = quoted(f"{type(error).__name__}: {error}", 200)
        _fail(verb, f"this is a defect of drivetl, {reason}; please report it with the lines above", _DEFECT)
    sys.exit(0)


def _verb() -> str:
    return next((word for word in sys.argv[1:] if not word.startswith("-")), "")


def _document_usage(error: Any) -> None:
    """Give a usage error the document that ``--json`` promises; Typer says the rest on stderr and exits."""
    if "--json" in sys.argv and not document_written():
        message = " ".join(error.format_message().split())
        usage = f"{message} See '{error.ctx.command_path} --help'." if error.ctx is not None else message
        write_document(error_document(_verb(), usage, error.exit_code))


def _refusal(error: OSError) -> str:
    """Return one sentence for what the operating system refused and no verb could say better."""
    place = "" if error.filename is None else f" {quoted(error.filename)}"
    reason = error.strerror or str(error) or type(error).__name__
    return f"the system refuses{place}: {reason}; check the path, its permissions and the free space"


def _missing_extra(verb: str, error: Exception) -> MissingExtraError | None:
    name = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
    extra = _EXTRA_OF.get(name.partition(".")[0])
    if extra is None:
        return None
    return MissingExtraError(
        f"'drivetl {verb}' needs the package {name!r}; install it with: pip install 'drivetl[{extra}]'"
    )


def _fail(verb: str, message: str, exit_status: int, *, gate: bool = False) -> NoReturn:
    if "--json" in sys.argv and not document_written():
        write_document(error_document(verb, message, exit_status))
    # A terminal that was closed takes no more words, and is no reason for another status.
    with suppress(OSError):
        print(f"drivetl: {'failed' if gate else 'error'}: {message}", file=sys.stderr)
    sys.exit(exit_status)


if __name__ == "__main__":
    main()
