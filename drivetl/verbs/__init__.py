"""The command line, one file per verb. Heavy imports stay inside the functions, so that ``--help`` is instant."""
