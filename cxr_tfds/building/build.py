"""Builds a dataset from a source in one call: recognizes the builder and keeps TFDS silent.

TensorFlow is loaded only to build, so that a wrong path is reported at once, and a dataset that is
already built as well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import io
import json
import re
import shlex
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cxr_tfds.building.build_report import TEXT_FILE
from cxr_tfds.building.report_file import read_report
from cxr_tfds.errors import InputError
from cxr_tfds.native import load_tensorflow
from cxr_tfds.reading.names import buildable_datasets, named_settings
from cxr_tfds.sources.config_json import repeat_settings
from cxr_tfds.sources.origin import ORIGIN_TEXTS
from cxr_tfds.sources.recognition import recognize_source
from cxr_tfds.text import did_you_mean, fold_text, screen_width, text_table

if TYPE_CHECKING:
    from cxr_tfds.building.builder import RadiographBuilder
    from cxr_tfds.sources.unlabelled import Recognition

_WORD = re.compile(r"[A-Za-z0-9_.]{1,20}")
_MOST_CHARACTERS = 60  # of a config name
_WIDTH = 80  # of a terminal
_LISTED = 3  # shortcuts and notes on the screen


class Built(NamedTuple):
    """A built dataset.

    Attributes:
      name: dataset/config.
      folder: With its shards, data_dir/dataset/config/version.
      report: Of its build, see `cxr_tfds.building.build_report`.
      is_new: Whether this call built it; otherwise the same source was built before.
      reason: Why this builder was chosen; "" if it was given.
    """

    name: str
    folder: Path
    report: dict[str, Any]
    is_new: bool
    reason: str


def build_source(
    source: Path,
    data_dir: Path,
    *,
    dataset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    announce: Callable[[Recognition], object] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Built:
    """Builds a dataset, or returns the one that was built from the same source.

    Args:
      source: Folder or archive with the images.
      data_dir: Folder for the dataset.
      dataset: Name of its builder. None recognizes it by the layout of the source.
      settings: Of the config. A config without a name gets one from its settings.
      overwrite: Whether to replace the dataset if it exists.
      announce: Called with the builder that was recognized, before the images are read.
      progress: Called after each image with the number of images read, and of all.

    Raises:
      MissingData: There are no labelled images.
      InputError: The builder cannot be recognized, the source or a setting cannot be used, or the
        dataset exists with other settings or from another source.
    """
    settings = dict(settings or {})
    reason, unnamed = "", frozenset[str]()
    if dataset is None:
        with repeat_settings(settings):
            recognized = recognize_source(source, settings)
        if announce:
            announce(recognized)
        dataset, reason = recognized.dataset, recognized.reason
        # They are always equal for the same source, so the name of the config leaves them out.
        unnamed = frozenset(recognized.settings.keys() - settings.keys())
        settings = {**recognized.settings, **settings}
    import tensorflow_datasets as tfds

    builder_class = load_builder(dataset)
    with _silence():
        builder = builder_class(
            data_dir=data_dir,
            config=make_config(builder_class, settings, unnamed),
            progress=progress or (lambda read, total: None),
        )
        is_new = overwrite or not builder.is_prepared()
        if is_new:
            load_tensorflow()
        modes = tfds.download.GenerateMode
        mode = modes.REUSE_CACHE_IF_EXISTS if overwrite else modes.REUSE_DATASET_IF_EXISTS
        config = tfds.download.DownloadConfig(manual_dir=source, download_mode=mode)
        builder.download_and_prepare(download_config=config)
    folder = Path(builder.data_path)
    name = f"{dataset}/{builder.builder_config.name}"
    return Built(name, folder, read_report(folder), is_new, reason)


def load_builder(dataset: str) -> type[RadiographBuilder]:
    """Returns the class of an installed builder.

    Raises:
      InputError: No builder has this name.
    """
    packages = buildable_datasets()
    if dataset not in packages:
        raise InputError(f"Dataset {did_you_mean(dataset, list(packages))}")
    import tensorflow_datasets as tfds

    importlib.import_module(f"{packages[dataset]}.{dataset}_dataset_builder")
    return tfds.builder_cls(dataset)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Hides the progress bars, prints and warnings of TFDS."""
    import tensorflow_datasets as tfds

    from cxr_tfds.building.tfds_command import hide_tfds_warnings

    tfds.disable_progress_bar()
    try:
        with hide_tfds_warnings(), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()


def make_config(
    builder_class: type[RadiographBuilder],
    settings: Mapping[str, Any],
    unnamed: Collection[str] = (),
) -> Any:
    """Returns the config with some settings, or the name of a listed one.

    Args:
      builder_class: The builder.
      settings: Of the config.
      unnamed: Settings whose values are not part of a name.

    Raises:
      InputError: A setting is unknown, or its value is not allowed.
    """
    config_class = builder_class.builder_config_cls
    if "name" in settings:
        return config_class(**settings)
    config_class(**{"name": "mine", **settings})  # checks the names and values
    defaults = {field.name: field.default for field in dataclasses.fields(config_class)}
    changed = {name: value for name, value in settings.items() if value != defaults.get(name)}
    name = name_settings(changed, unnamed)
    if name in builder_class.builder_configs:
        return name
    return config_class(**{"name": name, **changed})


def name_settings(settings: Mapping[str, Any], unnamed: Collection[str] = ()) -> str:
    """Returns a name for a config, such as "224-negative-Clear": always the same for the same one.

    Args:
      settings: Those that differ from the defaults.
      unnamed: Settings whose values are not part of the name.
    """
    size = settings.get("size", 224)
    words = ["original" if size is None else str(size)]
    words += ["rgb"] if settings.get("channels") == 3 else []
    words += [settings["fit"]] if settings.get("fit") else []
    words += ["source"] if settings.get("split") == "source" else []
    others = {
        name: value
        for name, value in settings.items()
        if name not in ("size", "channels", "fit", *ORIGIN_TEXTS)
        and (name, value) != ("split", "source")
    }
    for setting, value in sorted(others.items()):
        text = value.replace(":", "").replace("/", "of") if setting == "split" else value
        words.append(setting)
        if setting not in unnamed:
            words.append(text if _is_word(text) else _digest({setting: value}))
    if len(words) == 1 and settings.keys() & set(ORIGIN_TEXTS):
        words.append("described")
    name = "-".join(words)
    return name if len(name) <= _MOST_CHARACTERS else f"{words[0]}-{_digest(settings)}"


def _is_word(value: Any) -> bool:
    """Returns whether a value can be a part of a name: one that states no other setting."""
    return (
        isinstance(value, str) and bool(_WORD.fullmatch(value)) and not named_settings(f"x-{value}")
    )


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def format_built(built: Built, data_dir: Path) -> str:
    """Returns a summary of about ten lines: counts, what was left out, shortcuts, next command."""
    splits = built.report["splits"]
    classes = list(dict.fromkeys(name for counts in splits.values() for name in counts["classes"]))
    rows = [["split", "images", *classes]]
    for split, counts in splits.items():
        by_class = (f"{counts['classes'].get(name, 0):,}" for name in classes)
        rows.append([split, f"{counts['images']:,}", *by_class])
    counted = text_table(rows, "<" + ">" * (len(rows[0]) - 1))
    if max(map(len, counted.splitlines())) > _WIDTH:
        counted = "\n".join(_list_counts(split, counts) for split, counts in splits.items())
    parts = [
        counted,
        *_describe_left_out(built.report),
        *_describe_shortcuts(built.report["shortcuts"]),
        f"{'Dataset' if built.is_new else 'Already built'}: {built.folder} ({TEXT_FILE} has more)",
        "Next:\n  cxr-train --dataset "
        f"{built.name} --data-dir {shlex.quote(str(data_dir))} --out runs/first",
    ]
    return fold_text("\n".join(parts), screen_width())


def _list_counts(split: str, counts: Mapping[str, Any]) -> str:
    """Returns the counts of a split with many classes, in several lines."""
    listed = ", ".join(f"{name} {n:,}" for name, n in counts["classes"].items() if n)
    text = f"{split}: {counts['images']:,} images ({listed})"
    return textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_long_words=False)


def _describe_left_out(report: Mapping[str, Any]) -> list[str]:
    lines = list(report["notes"])
    if bad := report["bad_images"]:
        lines.append(f"Left out, unusable files: {len(bad):,} (bad_images.csv lists them).")
    lines = [textwrap.shorten(line, 2 * _WIDTH, placeholder=" …") for line in lines]
    return lines[:_LISTED] + [f"and {len(lines) - _LISTED} more notes"] * (len(lines) > _LISTED)


def _describe_shortcuts(shortcuts: list[Mapping[str, Any]] | None) -> list[str]:
    if shortcuts is None:
        return ["Shortcuts were not checked: too few training images of a class."]
    if not shortcuts:
        return ["Shortcuts: none was found."]
    texts = [shortcut["text"] for shortcut in shortcuts[:_LISTED]]
    more = [f"and {len(shortcuts) - _LISTED} more"] * (len(shortcuts) > _LISTED)
    return [
        "Shortcuts, which a model may learn instead of the finding:",
        *(f"  {x}" for x in texts + more),
    ]
