"""Predicts many files in order and decodes the next ones while the model runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from cxr_tfds.errors import BadImage
from cxr_tfds.imaging.pixels import DecodeResult
from cxr_tfds.parallel import all_cores, core_count, ordered_map
from cxr_tfds.regular_files import read_or_explain

from .classifier import Classifier
from .input_files import InputFile
from .prediction import Prediction

if TYPE_CHECKING:
    from .heatmaps import HeatmapFolder
    from .html_card import Card
    from .html_page import PredictionPage


def predict_files(
    classifier: Classifier,
    files: Iterable[InputFile],
    heatmaps: HeatmapFolder | None = None,
    page: PredictionPage | None = None,
) -> Iterator[tuple[InputFile, Prediction | BadImage]]:
    """Yields each file with its prediction or why it has none, in order, with few in memory.

    Heatmaps, and cards of the page, are drawn on all cores, too.
    """
    draws = heatmaps is not None or page is not None
    in_flight = 2 * core_count() if draws else None  # contents of files are kept until then
    with all_cores() as pool:
        decode = partial(_decode_file, classifier, keep_content=draws)
        decoded = ordered_map(decode, files, pool, in_flight=in_flight)
        results = ((file, _predict(classifier, image)) for file, image in decoded)
        if not draws:
            yield from results
            return
        draw = partial(_draw, heatmaps, page)
        numbered = enumerate(results, start=1)
        for file, result, card in ordered_map(draw, numbered, pool, in_flight=core_count()):
            if page is not None and card is not None:
                page.add(card)
            yield file, result


def _predict(classifier: Classifier, image: DecodeResult) -> Prediction | BadImage:
    return image if isinstance(image, BadImage) else classifier.predict(image.pixels)


def _draw(
    heatmaps: HeatmapFolder | None,
    page: PredictionPage | None,
    numbered: tuple[int, tuple[InputFile, Prediction | BadImage]],
) -> tuple[InputFile, Prediction | BadImage, Card | None]:
    """Returns the file without its contents, and its card for a page."""
    number, (file, result) = numbered
    data = file.content if isinstance(file.content, bytes) else b""
    if heatmaps is not None and not isinstance(result, BadImage):
        heatmaps.write(number, file.name, data, result)
    card = None if page is None else page.make_card(file.shared_name, data, result)
    return file._replace(content=None), result, card


def _decode_file(
    classifier: Classifier, file: InputFile, *, keep_content: bool
) -> tuple[InputFile, DecodeResult]:
    data = file.content
    if data is None:
        data = read_or_explain(file.name if file.path is None else file.path)
    image = data if isinstance(data, BadImage) else classifier.decode(data)
    return file._replace(content=data if keep_content else None), image
