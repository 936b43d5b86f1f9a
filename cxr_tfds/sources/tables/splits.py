"""Finds the splits of images: in a column, or in lists of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cxr_tfds.errors import InputError
from cxr_tfds.sources.paths import NEW_ROW, SPLIT_NAMES, join_names
from cxr_tfds.sources.settings import ReaderSettings
from cxr_tfds.sources.tables.columns import is_image_column
from cxr_tfds.sources.tables.files import SourceFile
from cxr_tfds.sources.tables.images import LabelledImage
from cxr_tfds.sources.tables.opening import read_list
from cxr_tfds.sources.tables.rows import RowReader


def read_splits(
    images: Mapping[int, LabelledImage], settings: ReaderSettings
) -> tuple[dict[int, str], list[str]]:
    """Returns position to split, "" where the table has none, and notes.

    Returns nothing if the table has no splits. Raises InputError if the column that the user named
    has a value that is not a split.
    """
    texts = sorted({image.split for image in images.values()} - {""})
    splits = {text: _parse_split(text) for text in texts}
    if unknown := [text for text, split in splits.items() if not split]:
        if settings.split_column:
            raise InputError(
                f"The split column has the values {join_names(unknown)}. Expected train, val and "
                "test, or the numbers of folds."
            )
        return {}, [f"The split column is ignored: its values are {join_names(unknown)}."]
    if not texts:
        return {}, []
    return {i: splits.get(image.split, "") for i, image in images.items()}, []


def _parse_split(text: str) -> str:
    """Returns the split that a text means, such as train or fold:0, or "" if it means none."""
    name = text.casefold()
    fold = name.removeprefix("fold").lstrip(" _-:")
    return f"fold:{int(fold)}" if fold.isdecimal() else SPLIT_NAMES.get(name, "")


def match_lists(
    lists: Mapping[str, SourceFile], reader: RowReader, images: Sequence[SourceFile]
) -> tuple[dict[int, str], list[str]]:
    """Returns position of the image to split, and the listed names without an image.

    Raises InputError if an image is in two lists, or several images match a name.
    """
    splits: dict[int, str] = {}
    twice: list[str] = []
    missing: list[str] = []
    for split, (name, path) in lists.items():
        lines = read_list(path, name)
        for number, text in lines:
            place = f"{name}, line {number}"
            position = reader.find_listed(text, name.rpartition("/")[0], place)
            if position is None:
                continue
            if position >= 0:
                if splits.setdefault(position, split) != split:
                    twice.append(f"{images[position].inner_path}: {splits[position]}, {split}")
            elif number > lines[0][0] or not is_image_column(text):  # no header
                missing.append(f"{text} ({place})")
    if twice:
        raise InputError(
            f"{len(twice):,} images in two lists of split_lists:\n  {join_names(twice, NEW_ROW)}\n"
            "Remove each from one of the lists."
        )
    return splits, missing
