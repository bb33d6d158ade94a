"""``python -m drivetl``: the same entrance as the ``drivetl`` command."""

from drivetl.cli import main

if __name__ == "__main__":
    main()
