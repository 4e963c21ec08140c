"""Errors that a person can act on: what is wrong, where, and what to do."""

from __future__ import annotations


class MlcError(Exception):
    """Something the user can mend. The command line prints it as one line and exits with ``exit_code``."""

    exit_code = 2


class QualityError(MlcError):
    """The prompts are below the configured quality."""

    exit_code = 4


class IntegrityError(MlcError):
    """What is registered is not what was registered."""

    exit_code = 7
