"""The layouts radiographs come in: split/class/file, and which copy of a doubled one is read."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.imaging.pixels import SUFFIXES
from cxr_tfds.sources.archive import ZipEntry
from cxr_tfds.sources.names import SPLIT_NAMES
from cxr_tfds.sources.opening import open_source
from cxr_tfds.sources.places import Place, children, listing, search, shown, subfolders

_NAMED_AT_MOST = 10
_log = logging.getLogger(__name__)


class SourceFile(NamedTuple):
    """One image file of a source.

    `image_id` is `split/class/name` in the spelling of the dataset (`class/name` where the source has no
    splits), whatever the folder's own spelling and place, so an id stays the same between copies of a source.
    """

    path: Place
    split: str  # of the source: train, validation or test
    class_name: str
    image_id: str


class Layout(NamedTuple):
    """The classes to look for and how the layout is described to a person.

    Attributes:
      name: the layout's own folder, such as "chest_xray".
      classes: class names in the order of the dataset.
      spellings: casefolded folder name to class.
      nested: whether class folders may hold folders.
    """

    name: str
    classes: Sequence[str]
    spellings: Mapping[str, str]
    nested: bool = False

    def __str__(self) -> str:
        places = "  ".join(f"{self.name}/train/{class_name}/…" for class_name in self.classes)
        return f"Expected layout:\n  {places}\n  and the same in val/ and test/, both optional"


def scan_splits(
    source: Path, name: str, classes: Sequence[str], *, spellings: Mapping[str, str] | None = None
) -> list[SourceFile]:
    """The files of a `split/class/file` layout, sorted by id.

    Args:
      source: holds the splits, or up to three folders down a folder that does, extracted or in zips; or a zip.
      name: the layout's own folder, such as "chest_xray".
      classes: class names in the order of the dataset; folders may differ in case.
      spellings: further names of class folders, compared without case, to the class they stand for.

    Raises:
      MissingData: there is no such folder, it is empty, or it holds no train split.
      InputError: a split lacks a class, holds a folder that is none or a class is empty, two folders
        claim the same split or class, a class folder holds folders, a file name is not UTF-8, there are
        several such layouts, a nested copy differs from the outer one, a zip is refused, or two zips hold
        different images of one name.
    """
    names = {c.casefold(): c for c in classes} | {
        key.casefold(): c for key, c in (spellings or {}).items()
    }
    layout = Layout(name, classes, names)
    try:
        places = open_source(Path(source))
    except MissingData as err:
        raise MissingData(f"{err}\n{layout}") from None
    # A folder with all classes comes first: in TFDS's own manual_dir the sets of several datasets lie together.
    for least, top in itertools.product((len(classes), 1), places):
        if found := search(top, lambda folder: _classes_in_train(folder, layout) >= least):  # noqa: B023
            root = expect_single(found, source)
            if top is places[0] and len(places) > 1:
                _log.info("The zips in %s are not read: %s stands there extracted.", source, root)
            return sorted(split_files(root, layout), key=lambda file: file.image_id)
    raise MissingData(f"No radiographs in {source}\nFound there: {listing(places[-1])}\n{layout}")


def _classes_in_train(folder: Place, layout: Layout) -> int:
    """How many of the classes the train split in `folder` holds; 0 without one."""
    train = [
        place for place in subfolders(folder) if SPLIT_NAMES.get(place.name.casefold()) == "train"
    ]
    names = {below.name.casefold() for place in train for below in subfolders(place)}
    return len({layout.spellings[name] for name in names if name in layout.spellings})


def expect_single(found: Sequence[Place], source: Path) -> Place:
    """The only one of `found`.

    Raises:
      InputError: there are several.
    """
    if len(found) > 1:
        rows = "\n".join(f"  {shown(place)}" for place in found[:_NAMED_AT_MOST])
        raise InputError(f"{source} holds {len(found)} sources:\n{rows}\nName one of them.")
    return found[0]


def split_files(root: Place, layout: Layout) -> list[SourceFile]:
    """The files of all splits in `root`. Raises as `scan_splits` does."""
    splits = named_folders(root, SPLIT_NAMES)
    files = [
        file
        for split, folder in sorted(splits.items())
        for file in class_files(folder, split, f"{split}/", layout)
    ]
    copied = _check_copies(root, files, layout)
    if unread := [
        shown(place.name)
        for place in children(root)
        if place not in (*splits.values(), *copied) and (place.is_dir() or named_as_image(place))
    ]:
        _log.warning(
            "Beside the splits of %s and not read: %s.", root, ", ".join(unread[:_NAMED_AT_MOST])
        )
    return files


def class_files(
    folder: Place, split: str, prefix: str, layout: Layout, *, beside: Sequence[Place] = ()
) -> list[SourceFile]:
    """The files in the class folders of `folder`; `prefix` comes before the class in their ids.

    Further folders are refused, except those in `beside`.

    Raises:
      InputError: see `scan_splits`.
    """
    class_folders = named_folders(folder, layout.spellings)
    for place in children(folder):
        if place.is_dir() and place.name.casefold() not in layout.spellings and place not in beside:
            raise InputError(
                f"{shown(place)} is none of the classes {', '.join(layout.classes)}. Rename it or take it away, "
                "so that no image is left out unnoticed."
            )
        if not place.is_dir() and named_as_image(place):
            raise InputError(
                f"{shown(place)} lies beside the class folders. Put it in one of them or take it away."
            )
    files = []
    for class_name in layout.classes:
        if class_name not in class_folders:
            raise InputError(
                f"{folder} holds no folder {class_name}.\nFound there: {listing(folder)}\n{layout}"
            )
        found = [
            SourceFile(place, split, class_name, f"{prefix}{class_name}/{below}")
            for below, place in _images(class_folders[class_name], nested=layout.nested)
        ]
        if not found:
            raise InputError(f"{class_folders[class_name]} holds no images.\n{layout}")
        files += found
    return files


def named_folders(folder: Place, names: Mapping[str, str]) -> dict[str, Place]:
    """Sub-folders by what `names` (keyed without case) calls them; the others are left out.

    Raises:
      InputError: two folders stand for one name.
    """
    found: dict[str, Place] = {}
    for place in subfolders(folder):
        wanted = names.get(place.name.casefold())
        if wanted is None:
            continue
        if wanted in found:
            raise InputError(
                f"{found[wanted]} and {place} both stand for {wanted!r}. Merge or remove one of them."
            )
        found[wanted] = place
    return found


def _images(folder: Place, *, nested: bool, above: str = "") -> Iterator[tuple[str, Place]]:
    """Each file with its path below the class folder."""
    for place in children(folder):
        if place.name.encode(errors="ignore").decode() != place.name:
            raise InputError(f"{str(place)!a}: the file name is not valid UTF-8. Rename the file.")
        if place.is_file():
            if isinstance(place, ZipEntry):
                place.check_alone()
            yield above + place.name, place
        elif not place.is_dir():
            if isinstance(place, Path) and place.exists():  # reading a pipe would never end
                raise InputError(f"{shown(place)} is neither a file nor a folder. Take it away.")
            yield above + place.name, place  # a link to nowhere: named with the other bad files
        elif nested:
            if isinstance(place, Path) and Path(str(folder)).resolve().is_relative_to(
                place.resolve()
            ):
                raise InputError(
                    f"{shown(place)} is a link to a folder that holds it. Remove the link."
                )
            yield from _images(place, nested=True, above=f"{above}{place.name}/")
        else:
            raise InputError(
                f"{shown(place)} is a folder among images. Move its images up or take it away."
            )


def named_as_image(place: Place) -> bool:
    """Whether a file's name says that it is an image; inside class folders all files are, whatever their names."""
    return PurePath(place.name).suffix.casefold() in SUFFIXES


def _check_copies(root: Place, files: Sequence[SourceFile], layout: Layout) -> list[Place]:
    """Of a layout that holds a copy of itself only the outer one is read, if nothing is lost by that.

    The Kaggle zip of the pneumonia radiographs holds every image twice, again under chest_xray/chest_xray.

    Returns:
      The folders in `root` that hold copies.
    """
    holding = []
    for below in subfolders(root):
        if below.name.casefold() in SPLIT_NAMES:
            continue
        for copy in search(below, lambda place: _classes_in_train(place, layout) > 0):
            inside = [
                named
                for split, folder in sorted(named_folders(copy, SPLIT_NAMES).items())
                for named in class_images(folder, f"{split}/", layout)
            ]
            check_copy(root, copy, files, inside)
            holding.append(below)
    return holding


def class_images(folder: Place, prefix: str, layout: Layout) -> list[tuple[str, Place]]:
    """Id and place of what the class folders in `folder` hold, whatever else is there."""
    return [
        (f"{prefix}{class_name}/{below}", place)
        for class_name, class_folder in sorted(named_folders(folder, layout.spellings).items())
        for below, place in _images(class_folder, nested=layout.nested)
    ]


def check_copy(
    root: Place, copy: Place, files: Sequence[SourceFile], inside: Sequence[tuple[str, Place]]
) -> None:
    """Compares the images inside a copy (id and place) with the files read instead of them.

    Raises:
      InputError: the copy holds an image that the outer one lacks, or has with another content.
    """
    read = {file.image_id: file.path for file in files}
    differing = [
        shown(place)
        for image_id, place in inside
        if image_id not in read or _content_key(read[image_id]) != _content_key(place)
    ]
    if differing:
        rows = "\n".join(f"  {path}" for path in differing[:_NAMED_AT_MOST])
        raise InputError(
            f"{copy} looks like a copy of {root}, but {len(differing)} of its images are not there or differ:\n"
            f"{rows}\nTake one of the two away, or name the one to read."
        )


def _content_key(place: Place) -> tuple[int, ...]:
    """Equal for files of equal content, without reading them: size, and the checksum where a zip has it."""
    if isinstance(place, ZipEntry):
        return place.size, place.crc
    try:
        return (Path(str(place)).stat().st_size,)
    except OSError:  # a link to nowhere is named when it is read
        return (-1,)
