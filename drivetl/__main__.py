"""The entrance of the ``drivetl`` command and of ``python -m drivetl``."""

import signal
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Import the command line and run it. Ctrl-C during the import is obeyed after it, in the words of every other."""
    pressed: list[int] = []
    # Where a shell started the program in its background, Ctrl-C is ignored, and so it stays.
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    from drivetl.cli import main as run

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run(interrupted=bool(pressed))


if __name__ == "__main__":
    main()
