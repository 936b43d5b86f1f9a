"""A source file to what a dataset stores of it. Loads no TensorFlow, so workers elsewhere start quickly."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from cxr_tfds.building.file_stats import Facts, facts_of
from cxr_tfds.errors import BadImage
from cxr_tfds.imaging.dicom import is_dicom
from cxr_tfds.imaging.pixels import radiograph

_PROOF_SIZE = 224  # what a source file is decoded to that is stored as it is


class Readable(Protocol):
    """A source file: a `Path`, an entry of an archive, or bytes that were read elsewhere."""

    def read_bytes(self) -> bytes: ...


class Fitting(NamedTuple):
    """How images are stored, see `cxr_tfds.building.config.RadiographConfig`."""

    size: int | None  # None: the source's bytes
    channels: int
    fit: str


class Fitted(NamedTuple):
    """What is stored of an image, and what else its file tells."""

    stored: np.ndarray | bytes  # uint8 (S, S, C), 0 to 255, or the source's bytes
    facts: Facts  # of the source


class Carried(NamedTuple):
    """A file that was read here, to be fitted on a machine that cannot see it."""

    content: bytes | OSError | BadImage

    def read_bytes(self) -> bytes:
        if isinstance(self.content, bytes):
            return self.content
        raise self.content


def carry(file: Readable) -> Carried:
    """`file` with its bytes, or with the reason why it has none."""
    try:
        return Carried(file.read_bytes())
    except (OSError, BadImage) as err:
        return Carried(err)


def fit_file(file: Readable, fitting: Fitting) -> Fitted | BadImage:
    """What to store of `file`, or why it cannot be used."""
    try:
        data = file.read_bytes()
        if fitting.size is None and is_dicom(data):
            return BadImage(
                "is DICOM, which may name the patient, so it is not stored as it is; build it with a size"
            )
        # Source files are decoded, too: a broken one must not be found in the middle of training.
        decoded = radiograph(
            data, fitting.size or _PROOF_SIZE, fit=fitting.fit, channels=fitting.channels
        )
    except BadImage as err:
        return err
    except OSError as err:
        return BadImage(f"cannot be read: {err.strerror or err}")
    return Fitted(data if fitting.size is None else decoded.pixels, facts_of(data, decoded))
