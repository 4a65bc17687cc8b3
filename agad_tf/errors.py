"""Exceptions for what a user can mend."""


class InputError(ValueError):
    """Bad input, told in one line: what was expected, what was received, what to do.

    The command line prints the message without a traceback and exits with status 2.
    """


class CollapsedError(InputError):
    """A training that ended with a model of no use: nothing of it is worth keeping."""
