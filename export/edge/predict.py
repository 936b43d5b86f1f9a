"""Files to predictions, one after the other: the next ones are decoded while the interpreter runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING

import numpy as np

from cxr_tfds.errors import BadImage
from cxr_tfds.parallel import all_cores, ordered_map

from .classifier import Classifier, Prediction
from .files import content

if TYPE_CHECKING:
    from .listing import Found
    from .overlay import Overlays

Decoded = tuple["Found", "np.ndarray | str"]
Answer = tuple["Found", "Prediction | str"]


def answers(
    classifier: Classifier, found: Iterable[Found], overlays: Overlays | None = None
) -> Iterator[Answer]:
    """The prediction for each file, or why there is none; in order, with few images in memory.

    Raises:
      InputError: the model gives no number, or an overlay cannot be written.
    """
    with all_cores() as pool:
        for number, (file, pixels) in enumerate(decoded(classifier, found, pool), start=1):
            if isinstance(pixels, str):
                yield file, pixels
                continue
            answer = classifier.predict(pixels)
            if overlays is not None:
                overlays.write(number, file, pixels, answer)
            yield file, answer


def decoded(classifier: Classifier, found: Iterable[Found], pool: Executor) -> Iterator[Decoded]:
    """Pixels uint8 (S, S, C) of each file, or why there are none; decoded ahead, in order."""
    return ordered_map(_decoder(classifier), found, pool)


def _decoder(classifier: Classifier) -> Callable[[Found], Decoded]:
    def decode(file: Found) -> Decoded:
        if file.error is not None:
            return file, file.error
        try:
            data = content(file.name) if file.content is None else file.content
        except FileNotFoundError:
            return file, "is not there any more"
        except OSError as err:
            return file, f"cannot be read: {err.strerror or err}"
        try:
            return file._replace(content=None), classifier.pixels(data)
        except BadImage as err:
            return file._replace(content=None), str(err)

    return decode
