"""Source folders: which files are radiographs, and what split and class they stand in.

Nothing is decoded here. Works without TensorFlow, so a source can be looked at before it is built.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cxr_tfds.errors import InputError, MissingData

# Names under which the splits are found, compared without case.
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_JUNK = ("__macosx", "thumbs.db", "desktop.ini")


class SourceFile(NamedTuple):
    """One image file of a source.

    `image_id` is `split/class/name` in the spelling of the dataset, whatever the folder's own
    spelling and place, so an id stays the same between copies of a source.
    """

    path: Path
    split: str  # of the source: train, validation or test
    class_name: str
    image_id: str


def is_junk(path: Path) -> bool:
    """Whether an archiver or a file manager left `path`: `__MACOSX`, `._*`, `.DS_Store`, `Thumbs.db`."""
    return path.name.startswith(".") or path.name.casefold() in _JUNK


def scan_splits(folder: Path, name: str, classes: Sequence[str]) -> list[SourceFile]:
    """The files of a `split/class/file` layout, sorted by id.

    Args:
      folder: holds the splits itself, or the folder `name` that does (twice nested in some zips).
      name: the layout's own folder, such as "chest_xray".
      classes: class names in the order of the dataset; folders may differ in case.

    Raises:
      MissingData: there is no such folder, it is empty, or it holds no train split.
      InputError: a split lacks a class, holds a folder that is none or a class is empty, two folders
        claim the same split or class, a class folder holds folders, or a file name is not UTF-8.
    """
    folder = Path(folder)
    for root in (folder, folder / name, folder / name / name):
        if root.is_dir() and (splits := _named_folders(root, _SPLIT_NAMES)).get("train"):
            break
    else:
        raise MissingData(_not_found(folder, name, classes))
    known = {c.casefold(): c for c in classes}
    files = []
    for split, split_folder in sorted(splits.items()):
        class_folders = _named_folders(split_folder, known)
        for path in split_folder.iterdir():
            if path.is_dir() and not is_junk(path) and path.name.casefold() not in known:
                raise InputError(
                    f"{path} is none of the classes {', '.join(classes)}. Rename it or take it away, "
                    "so that no image is left out unnoticed."
                )
        for class_name in classes:
            if class_name not in class_folders:
                raise InputError(
                    f"{split_folder} holds no folder {class_name}.\n"
                    f"Found there: {_listing(split_folder)}\n{_layout(name, classes)}"
                )
            found = [
                SourceFile(path, split, class_name, f"{split}/{class_name}/{path.name}")
                for path in _images(class_folders[class_name])
            ]
            if not found:
                raise InputError(f"{class_folders[class_name]} holds no images.\n{_layout(name, classes)}")
            files += found
    return sorted(files, key=lambda file: file.image_id)


def _named_folders(folder: Path, names: dict[str, str]) -> dict[str, Path]:
    """Sub-folders by what `names` (keyed without case) calls them; the others are left out."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        wanted = names.get(path.name.casefold())
        if wanted is None or is_junk(path) or not path.is_dir():
            continue
        if wanted in found:
            raise InputError(f"{found[wanted]} and {path} both stand for {wanted!r}. Merge or remove one of them.")
        found[wanted] = path
    return found


def _images(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if is_junk(path):
            continue
        if path.is_dir():
            raise InputError(f"{path} is a folder among images. Move its images up or take it away.")
        if path.name.encode(errors="ignore").decode() != path.name:
            raise InputError(f"{str(path)!a}: the file name is not valid UTF-8. Rename the file.")
        yield path


def _layout(name: str, classes: Sequence[str]) -> str:
    rows = [f"  {name}/"]
    for split, optional in (("train", ""), ("val", " (optional)"), ("test", " (optional)")):
        rows.append(f"    {split}/{optional}")
        rows += [f"      {class_name}/*.jpeg" for class_name in classes]
    return "Expected layout:\n" + "\n".join(rows)


def _listing(folder: Path, most: int = 10) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "nothing"


def _not_found(folder: Path, name: str, classes: Sequence[str]) -> str:
    if folder.is_dir():
        found = f"Found there: {_listing(folder)}"
    else:
        found = "It is a file." if folder.exists() else "It does not exist."
    return f"No radiographs in {folder}\n{found}\n{_layout(name, classes)}"
