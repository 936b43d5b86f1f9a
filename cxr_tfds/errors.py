"""Errors a person can mend: what was found, what was expected, what to do.

The commands print these as one message and exit with 1; any other exception is a defect
and keeps its traceback.
"""


class InputError(ValueError):
    """A value, file or folder that cannot be used as it is."""


class MissingData(InputError, FileNotFoundError):
    """A dataset, run or source folder that is not where it was looked for."""


class BadImage(InputError):
    """A file that holds no usable radiograph; the message is the reason, without the file's name."""
