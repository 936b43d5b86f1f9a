"""Finds the splits of images: in a column, or in lists of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cxr_tfds.errors import InputError
from cxr_tfds.sources.paths import NEW_ROW, SPLIT_NAMES, join_names
from cxr_tfds.sources.settings import ReaderSettings, propose_config
from cxr_tfds.sources.tables.columns import is_image_column
from cxr_tfds.sources.tables.files import SourceFile
from cxr_tfds.sources.tables.images import LabelledImage
from cxr_tfds.sources.tables.opening import read_list
from cxr_tfds.sources.tables.rows import RowReader


def read_splits(
    images: Mapping[int, LabelledImage], settings: ReaderSettings
) -> tuple[dict[int, str], list[str]]:
    """Returns position to split, from the table, and notes; nothing without splits.

    Images whose split is empty get "".

    Raises:
      InputError: The column that the user named has a value that is not a split.
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
    lists: Mapping[str, SourceFile],
    reader: RowReader,
    files: Sequence[SourceFile],
    settings: ReaderSettings,
) -> tuple[dict[int, str], list[str]]:
    """Returns position of the image to split, and the listed names without an image.

    Args:
      lists: Split to the list of its images.
      reader: Finds the images.
      files: The images.
      settings: What to do with names without an image.

    Raises:
      InputError: An image is in two lists, or a name has no image or several.
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
                    twice.append(f"{files[position].inner_path}: {splits[position]}, {split}")
            elif number > lines[0][0] or not is_image_column(text):  # no header
                missing.append(f"{text} ({place})")
    if twice:
        raise InputError(
            f"{len(twice):,} images in two lists of split_lists:\n  {join_names(twice, NEW_ROW)}\n"
            "Remove each from one of the lists."
        )
    if missing and settings.on_missing == "error":
        raise InputError(
            f"{len(missing):,} lines of split_lists whose image does not exist:\n  "
            f"{join_names(missing, NEW_ROW)}\nAdd the images, or leave such lines out: --config "
            f"{propose_config(settings, on_missing='leave_out')}"
        )
    return splits, missing
