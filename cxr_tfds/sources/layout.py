"""Lists the images of a `split/class/file` layout and handles copies of a layout inside itself."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.imaging.dicom import is_dicom
from cxr_tfds.regular_files import read_content
from cxr_tfds.sources.archives import SourcePath
from cxr_tfds.sources.config_json import propose_config
from cxr_tfds.sources.copies import check_copy
from cxr_tfds.sources.image import Listing, SourceImage
from cxr_tfds.sources.masks import EXCLUDED, MASKS, FileFilter, is_mask_folder
from cxr_tfds.sources.opening import find_root
from cxr_tfds.sources.paths import (
    SPLIT_NAMES,
    find_folders,
    fold_name,
    join_names,
    list_children,
    list_subfolders,
    summarize_folder,
)
from cxr_tfds.sources.walking import find_problem_of, has_image_suffix, walk_files
from cxr_tfds.text import printable

_log = logging.getLogger(__name__)
UNLABELLED = "images of a split without class folders"
EMPTY = "splits without images"
NEXT_TO_SPLITS = "files and folders next to the splits"
UNSELECTED = "folders that are not among the classes"
_MOST_EXAMPLES = 10  # in a message


@dataclasses.dataclass(frozen=True)
class Layout:
    """The class folders of a source."""

    name: str  # usual name of the top folder
    classes: Sequence[str]  # in the order of the dataset
    other_spellings: Mapping[str, str] = dataclasses.field(default_factory=dict)  # name to class
    nested: bool = False  # whether class folders may contain folders
    selects: bool = False  # whether other folders are left out; otherwise they are an error
    merges: bool = False  # whether a class may have several folders

    @functools.cached_property
    def spellings(self) -> dict[str, str]:
        """Folded folder name (see `fold_name`) to class."""
        # A class with several folders has only those that are listed.
        names = {} if self.merges else {name: name for name in self.classes}
        names |= self.other_spellings
        return {fold_name(name): class_name for name, class_name in names.items()}

    def describe(self, classes: Sequence[str]) -> list[str]:
        """Returns the classes for a message, with the folders that they may have."""
        if not self.merges:
            return list(classes)
        folders = {
            name: [old for old, new in self.other_spellings.items() if new == name]
            for name in classes
        }
        return [f"{join_names(old)} of the class {name}" for name, old in folders.items()]

    def __str__(self) -> str:
        names = self.classes[:_MOST_EXAMPLES]
        folders = "  ".join(f"{self.name}/train/{class_name}/…" for class_name in names)
        if len(self.classes) > len(names):
            folders += f"  and {len(self.classes) - len(names)} more"
        return f"Expected layout:\n  {folders}\n  and the same in val/ and test/, both optional"


def scan_splits(
    source: Path, name: str, classes: Sequence[str], spellings: Mapping[str, str] | None = None
) -> Listing:
    """Returns the images of a `split/class/file` layout.

    Args:
      source: Folder, archive, or folder with the layout at most three levels down.
      name: Usual name of the top folder, such as "chest_xray".
      classes: Class names in the order of the dataset. Folder names are compared without case.
      spellings: Further names of class folders, and their class.

    Raises:
      MissingData: There is no such layout.
      InputError: The layout is ambiguous or incomplete, contains files that would be left out, or
        an archive is refused.
    """
    layout = Layout(name, classes, spellings or {})
    # Prefer a folder with all classes: TFDS's default manual_dir holds several datasets.
    root = find_root(
        Path(source),
        str(layout),
        lambda folder: count_train_classes(folder, layout) == len(classes),
        lambda folder: count_train_classes(folder, layout) > 0,
    )
    files = FileFilter(source=Path(source))
    images = list_split_images(root, layout, files)
    return Listing(sort_by_id(images), tuple(classes), left_out=files.left_out)


def sort_by_id(images: Sequence[SourceImage]) -> list[SourceImage]:
    """Returns the images in the order of a listing."""
    return sorted(images, key=lambda image: image.image_id)


def count_train_classes(folder: SourcePath, layout: Layout) -> int:
    """Returns how many classes the train split in `folder` has, 0 if there is no train split."""
    classes = {
        layout.spellings.get(fold_name(below.name))
        for path in list_subfolders(folder)
        if SPLIT_NAMES.get(path.name.casefold()) == "train"
        for below in list_subfolders(path)
    }
    return len(classes - {None})


def list_split_images(
    root: SourcePath,
    layout: Layout,
    files: FileFilter,
    split_names: Mapping[str, str] = SPLIT_NAMES,
) -> list[SourceImage]:
    """Returns the images of all splits in `root`.

    A split other than train without class folders, such as an unlabelled test split, or without
    images is left out.
    Raises InputError like `scan_splits`.
    """
    splits = find_named_folders(root, split_names)
    images: list[SourceImage] = []
    for split, folder in splits.items():
        inside = (f"{folder.name}/{x}" for x, _ in walk_files(folder, True, source=files.source))
        if split != "train" and not files.accepts_any(inside):
            files.leave_out(EMPTY, f"{folder.name}/")
        elif split == "train" or find_class_folders(folder, layout):
            images += list_checked_images(folder, layout, files, split)
        else:
            files.leave_out(UNLABELLED, f"{folder.name}/")
    copies = _check_nested_copies(root, images, layout, files)
    ignored = []
    for path in list_children(root):
        if problem := find_problem_of(path):
            files.leave_out(problem, path.name)
        elif path.is_dir() and is_mask_folder(path.name):
            files.leave_out(MASKS, f"{path.name}/")
        elif path not in (*splits.values(), *copies) and (path.is_dir() or _is_image(path)):
            ignored.append(path.name)
            files.leave_out(NEXT_TO_SPLITS, f"{path.name}/" if path.is_dir() else path.name)
    if ignored:
        _log.warning("Ignored next to the splits of %s: %s.", root, join_names(ignored))
    return images


def list_class_images(
    folder: SourcePath, layout: Layout, files: FileFilter, split: str = ""
) -> list[SourceImage]:
    """Returns the images in the class folders of a split, or "" for a source without splits."""
    id_prefix = f"{split}/" if split else ""
    path_prefix = f"{folder.name}/" if split else ""
    images = []
    for class_name, class_folders in find_class_folders(folder, layout).items():
        for class_folder in class_folders:
            own_folder = f"{class_folder.name}/" if len(class_folders) > 1 else ""
            for inner_path, path in walk_files(class_folder, layout.nested, source=files.source):
                if files.accepts(f"{path_prefix}{class_folder.name}/{inner_path}"):
                    image_id = f"{id_prefix}{class_name}/{own_folder}{inner_path}"
                    images.append(
                        SourceImage(
                            path,
                            split or "train",
                            class_name,
                            image_id,
                            finding=class_folder.name if layout.merges else None,
                            inner_path=inner_path,
                        )
                    )
    return images


def list_checked_images(
    folder: SourcePath,
    layout: Layout,
    files: FileFilter,
    split: str = "",
    ignored: Sequence[SourcePath] = (),
) -> list[SourceImage]:
    """Returns the same as `list_class_images` and checks that nothing is left out.

    Raises:
      InputError: A class is missing or empty, or there is an image or a folder outside the class
        folders that is not in `ignored`.
    """
    class_folders = find_class_folders(folder, layout)
    known = [path for paths in class_folders.values() for path in paths]
    for path in list_children(folder):
        if problem := find_problem_of(path):
            files.leave_out(problem, f"{folder.name}/{path.name}" if split else path.name)
        elif path.is_dir() and path not in (*known, *ignored):
            _leave_out_folder(path, layout, files, f"{folder.name}/" if split else "")
        elif not path.is_dir() and _is_image(path):
            raise InputError(
                f"{printable(path)} is outside the class folders. Move it into one or remove it."
            )
    if missing := set(layout.classes) - set(class_folders):
        names = [name for name in layout.classes if name not in missing]
        select = propose_config(classes=names)
        raise InputError(
            f"{folder} has no folder {join_names(layout.describe(sorted(missing)))}.\n"
            f"Found there: {summarize_folder(folder)}\n{layout}"
            + f"\nTo do without the class everywhere, select the others: {select}"
            * (layout.nested and len(names) > 1)
        )
    images = list_class_images(folder, layout, files, split)
    if empty := set(layout.classes) - {image.label for image in images}:
        folder = class_folders[min(empty)][0]
        raise InputError(f"{folder} contains no images.{files.describe()}\n{layout}")
    return images


def _leave_out_folder(
    path: SourcePath, layout: Layout, files: FileFilter, path_prefix: str
) -> None:
    walked = walk_files(path, True, source=files.source)
    inner_paths = [f"{path_prefix}{path.name}/{inner}" for inner, _ in walked]
    if is_mask_folder(path.name):
        files.leave_out(MASKS, f"{path.name}/")
    elif layout.selects:
        files.leave_out(UNSELECTED, f"{path.name}/")
    elif FileFilter(source=None).accepts_any(inner_paths) and not files.accepts_any(inner_paths):
        files.leave_out(EXCLUDED, f"{path_prefix}{path.name}/")
    elif not files.accepts_any(inner_paths):
        _log.warning("Ignored: %s contains no images.", printable(path))
    else:
        raise InputError(
            f"{printable(path)} is not one of the classes {join_names(layout.classes)}. "
            "Rename or remove it; otherwise its images would be left out."
        )


def find_named_folders(folder: SourcePath, names: Mapping[str, str]) -> dict[str, SourcePath]:
    """Returns split or class to subfolder; `names` is folded folder name to split or class.

    Raises InputError if two folders stand for the same split or class.
    """
    found: dict[str, SourcePath] = {}
    for path in list_subfolders(folder):
        name = names.get(fold_name(path.name))
        if name in found:
            raise InputError(f"{found[name]} and {path} both mean {name!r}. Merge or remove one.")
        if name is not None:
            found[name] = path
    return found


def _is_image(path: SourcePath) -> bool:
    """Returns whether a file outside the class folders is an image: by its suffix, or DICOM."""
    if PurePath(path.name).suffix:
        return has_image_suffix(path)
    try:
        return path.is_file() and is_dicom(read_content(path))
    except (OSError, BadImage, InputError):  # conflicting READMEs of two zips
        return False


def find_class_folders(folder: SourcePath, layout: Layout) -> dict[str, list[SourcePath]]:
    """Returns class to its folders. Raises InputError for a second one, unless `layout.merges`."""
    if not layout.merges:
        named = find_named_folders(folder, layout.spellings)
        return {class_name: [path] for class_name, path in named.items()}
    found: dict[str, list[SourcePath]] = {}
    for path in list_subfolders(folder):
        if class_name := layout.spellings.get(fold_name(path.name)):
            found.setdefault(class_name, []).append(path)
    return found


def _check_nested_copies(
    root: SourcePath, images: Sequence[SourceImage], layout: Layout, files: FileFilter
) -> list[SourcePath]:
    """Returns the folders next to the splits that contain a copy of the layout, which is ignored.

    The Kaggle pneumonia zip holds every image twice, again under chest_xray/chest_xray.
    """
    holders = []
    for folder in list_subfolders(root):
        if folder.name.casefold() not in SPLIT_NAMES and not is_mask_folder(folder.name):
            for copy in find_folders(folder, lambda path: count_train_classes(path, layout) > 0):
                copied = []
                for split, split_folder in find_named_folders(copy, SPLIT_NAMES).items():
                    copied += list_class_images(split_folder, layout, files.without_record(), split)
                check_copy(root, images, copy, copied, files)
                holders.append(folder)
    return holders
