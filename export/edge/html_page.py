"""Writes a page of predictions: one HTML file that needs no script, network or other file."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from types import TracebackType

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.files import complete_file
from cxr_tfds.imaging.grey_levels import GreyLevels
from cxr_tfds.locks import lock_path
from cxr_tfds.os_errors import explain_writing
from cxr_tfds.text import DISCLAIMER, html

from .html_card import NO_FINDING, UNREADABLE, Card, make_card, scale_url
from .html_style import STYLE
from .model_info import ModelInfo
from .prediction import Prediction

# No request leaves the page, whatever a file name contains.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class PredictionPage:
    """A new page, published when its `with` block succeeds. Otherwise no file is left.

    Memory does not grow with the number of images. Each takes about 13 KB of the page.
    """

    def __init__(self, path: Path, info: ModelInfo, model: str) -> None:
        """Raises InputError if the file exists. `model` is the name of the model file."""
        _check_new(path)
        self._path, self._info, self._model = path, info, model
        self._levels = GreyLevels.from_metadata(info.grey_levels)
        self._counts: Counter[str] = Counter()  # of cards, by group
        self._images = 0

    def __enter__(self) -> PredictionPage:
        """Opens a temporary file for the cards, because the counts above them come last.

        Raises:
          InputError: The file exists, cannot be written, or another process writes it.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock_path(self._path))
            _check_new(self._path)
            stack.enter_context(explain_writing(self._path))
            cards = tempfile.TemporaryFile(
                "w+", encoding="utf-8", errors="replace", dir=self._path.parent
            )
            self._cards = stack.enter_context(cards)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        """Writes the page if the block succeeded."""
        with self._stack:
            if kind is not None:
                return
            self._cards.seek(0)
            with (
                complete_file(self._path) as temporary,
                temporary.open("w", encoding="utf-8", errors="replace") as page,
            ):
                page.write(self._head())
                shutil.copyfileobj(self._cards, page)
                page.write("</main></body></html>\n")

    def make_card(self, name: str, data: bytes, result: Prediction | BadImage) -> Card:
        """Returns the card of an image file, given its contents. Threads may share a page."""
        return make_card(self._info, self._levels, name, data, result)

    def add(self, card: Card) -> None:
        """Writes a card."""
        self._images += 1
        self._counts.update(card.groups)
        with explain_writing(self._path):
            self._cards.write(card.html)

    def _head(self) -> str:
        filters, filter_rules = self._make_filters()
        maps, map_rules = _make_map_choice(self._info) if self._info.heatmap else ("", "")
        title = f"Predictions of {html(self._model)}"
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            f"<title>{title}</title><style>{STYLE}{filter_rules}{map_rules}</style></head>\n"
            f"<body><header><h1>{title}</h1><p>{html(_explain_rule(self._info))}</p>"
            f"<p><strong>{DISCLAIMER}</strong></p></header>\n"
            f'<form class="bar" aria-label="What is shown">{filters}{maps}</form>\n<main>\n'
        )

    def _make_filters(self) -> tuple[str, str]:
        """Returns buttons that show the cards of one label, and the style sheet that does so."""
        groups = [(str(number), name) for number, name in enumerate(self._info.labels)]
        groups += [(NO_FINDING, "No finding"), (UNREADABLE, "Not readable")]
        buttons, rules = _radio("show", "all", f"All {self._images:,}", is_checked=True), ""
        for group, name in groups:
            if count := self._counts[group]:
                buttons += _radio("show", group, f"{name} {count:,}")
                rules += f"body:has(#show-{group}:checked) .card:not(.g-{group}){{display:none}}\n"
        return f"<fieldset><legend>Show</legend>{buttons}</fieldset>", rules


def _check_new(path: Path) -> None:
    if path.exists():
        raise InputError(f"{path} exists. Choose another name for the page.")


def _make_map_choice(info: ModelInfo) -> tuple[str, str]:
    """Returns buttons that show one heat map of each image, and the style sheet that does so."""
    names: tuple[str, ...] = ("the predicted class",)
    if info.several_findings:
        names = info.labels
    elif len(info.labels) == 2:
        names = info.labels[1:]
    buttons = rules = ""
    for number, name in enumerate(names):
        buttons += _radio("map", str(number), name, is_checked=number == 0)
        rules += f"body:has(#map-{number}:checked) .m-{number}{{opacity:1}}\n"
    buttons += _radio("map", "off", "off")
    scale = f'<img src="{scale_url()}" alt="grey, red, yellow, white">'
    return (
        f"<fieldset><legend>Colours: what speaks for</legend>{buttons}"
        f'<span class="scale">nothing {scale} most in this image</span></fieldset>',
        rules,
    )


def _explain_rule(info: ModelInfo) -> str:
    if info.several_findings:
        return "Each finding is predicted from a probability of its own, the mark on its bar."
    if len(info.labels) > 2:
        return "The most probable class is predicted."
    return f"{info.labels[1]} is predicted from the mark on its bar, {info.labels[0]} below it."


def _radio(group: str, value: str, label: str, *, is_checked: bool = False) -> str:
    checked = " checked" if is_checked else ""
    return (
        f'<label><input type="radio" name="{group}" id="{group}-{value}"{checked}>'
        f"<span>{html(label)}</span></label>"
    )
