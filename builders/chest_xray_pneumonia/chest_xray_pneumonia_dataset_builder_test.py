"""The builder on drawn radiographs: what stands in the records, and that a bad source leaves nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from cxr_tfds.builder import RadiographConfig
from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.phantom_dataset import images_per_split, write_dataset
from cxr_tfds.pixels import radiograph

REPOSITORY = Path(__file__).parents[2]
ORIGINALS = REPOSITORY.parent / "shared" / "data" / "kermany_original"
SPLITS = ("train", "validation", "test")
SMALL = RadiographConfig(name="32", size=32)


class ChestXrayPneumoniaTest(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 30, "validation": 6, "test": 12}  # noqa: RUF012

    @classmethod
    def setUpClass(cls) -> None:
        cls.EXAMPLE_DIR = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.EXAMPLE_DIR)
        write_dataset(Path(cls.EXAMPLE_DIR), images=images_per_split(20, 12), seed=0)
        super().setUpClass()


def draw(path: Path, mode: str = "L", size: tuple[int, int] = (40, 30)) -> Path:
    """A small image of noise that its name alone determines; a JPEG whatever its name unless it ends in .png."""
    rng = np.random.default_rng(list(path.name.encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = Image.fromarray(rng.integers(0, 256, size[::-1], dtype=np.uint8))
    grey.convert(mode).save(path, "PNG" if path.suffix == ".png" else "JPEG")
    return path


def draw_source(folder: Path) -> Path:
    """`folder`/chest_xray with 30 + 30 train, 2 + 2 val and 5 + 5 test images, one of each patient."""
    number = 0
    for split, count in (("train", 30), ("val", 2), ("test", 5)):
        for _ in range(count):
            number += 1
            draw(folder / "chest_xray" / split / "NORMAL" / f"IM-{number:04}-0001.jpeg")
            kind = "virus" if number % 3 == 0 else "bacteria"
            draw(folder / "chest_xray" / split / "PNEUMONIA" / f"person{number}_{kind}_{number}.jpeg")
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source that a test may change."""
    return draw_source(tmp_path / "source")


@pytest.fixture(scope="module")
def kept_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source with odd files among the others. Read it, never write to it."""
    folder = draw_source(tmp_path_factory.mktemp("kept") / "source")
    train = folder / "chest_xray" / "train"
    draw(train / "NORMAL" / "NORMAL2-IM-0001-0001.png")  # not patient IM-0001
    draw(train / "NORMAL" / "unknown.jpeg")
    draw(train / "PNEUMONIA" / "person1_virus_900.jpeg", "RGB", (33, 70))  # not patient bacteria-1
    draw(train / "PNEUMONIA" / "person1_bacteria_901.png", "RGBA")  # patient bacteria-1 again
    draw(folder / "chest_xray" / "test" / "PNEUMONIA" / "person900_bacteria_902.jpeg", "CMYK")
    (train / "NORMAL" / "._IM-0001-0001.jpeg").write_bytes(b"\0\5\x16\7")
    shutil.copytree(folder / "chest_xray", folder / "chest_xray" / "chest_xray")  # as in the Kaggle zip
    return folder


Records = dict[str, dict[str, dict[str, Any]]]


def build(source: Path | None, data_dir: Path, config: RadiographConfig | str = SMALL, **options: Any) -> Builder:
    builder = Builder(data_dir=data_dir, config=config)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=source, **options))
    return builder


def read(data_dir: Path, config: str = "32") -> Records:
    """Split to image id to example, read without the builder's code."""
    builder = tfds.builder_from_directory(data_dir / "chest_xray_pneumonia" / config / "1.0.0")
    return {
        split: {example["image_id"].decode(): example for example in tfds.as_numpy(builder.as_dataset(split=split))}
        for split in builder.info.splits
    }


@pytest.fixture(scope="module")
def kept_data(kept_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data_dir that holds `kept_source` as config 32. Read it, never write to it."""
    data_dir = tmp_path_factory.mktemp("data")
    build(kept_source, data_dir)
    return data_dir


@pytest.fixture(scope="module")
def records(kept_data: Path) -> Records:
    return read(kept_data)


def files_of(source: Path, records: Records) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each example with the file it came from."""
    for examples in records.values():
        for image_id, example in examples.items():
            split, class_name, name = image_id.split("/")
            yield source / "chest_xray" / split.replace("validation", "val") / class_name / name, example


def assert_nothing_published(data_dir: Path) -> None:
    left = [path.name for path in data_dir.rglob("*")]
    assert not [name for name in left if re.search(r"tfrecord|dataset_info|incomplete|\d+\.\d+\.\d+", name)]


@pytest.mark.parametrize(
    ("image_id", "label", "finding", "patient", "size"),
    [
        ("train/NORMAL/IM-0004-0001.jpeg", 0, 0, "IM-0004", (30, 40)),
        ("train/NORMAL/NORMAL2-IM-0001-0001.png", 0, 0, "NORMAL2-IM-0001", (30, 40)),
        ("train/NORMAL/unknown.jpeg", 0, -1, "", (30, 40)),  # the name tells neither finding nor patient
        ("train/PNEUMONIA/person1_bacteria_1.jpeg", 1, 1, "bacteria-1", (30, 40)),
        ("train/PNEUMONIA/person1_bacteria_901.png", 1, 1, "bacteria-1", (30, 40)),
        ("train/PNEUMONIA/person1_virus_900.jpeg", 1, 2, "virus-1", (70, 33)),
        ("validation/PNEUMONIA/person31_bacteria_31.jpeg", 1, 1, "bacteria-31", (30, 40)),
        ("test/PNEUMONIA/person33_virus_33.jpeg", 1, 2, "virus-33", (30, 40)),
        ("test/NORMAL/IM-0037-0001.jpeg", 0, 0, "IM-0037", (30, 40)),
    ],
)
def test_named_images(
    image_id: str, label: int, finding: int, patient: str, size: tuple[int, int], records: Records
) -> None:
    example = next(examples[image_id] for examples in records.values() if image_id in examples)
    assert (example["label"], example["finding"]) == (label, finding)
    assert example["patient_id"].decode() == patient
    assert (example["height"], example["width"]) == size


def test_every_file_is_there_once_and_junk_is_not(kept_source: Path, records: Records) -> None:
    ids = [image_id for examples in records.values() for image_id in examples]
    assert len(ids) == len(set(ids)) == 74 + 5
    assert {path for path, _ in files_of(kept_source, records)} == {
        path for path in kept_source.glob("chest_xray/[tv]*/*/*") if not path.name.startswith("._")
    }


def test_images_are_the_pixel_function_of_their_files(kept_source: Path, records: Records) -> None:
    for path, example in files_of(kept_source, records):
        wanted = radiograph(path.read_bytes(), 32)
        np.testing.assert_array_equal(example["image"], wanted.pixels)
        assert (example["height"], example["width"]) == (wanted.height, wanted.width)


def test_the_test_split_is_the_sources_and_validation_is_a_tenth(records: Records) -> None:
    assert set(records) == set(SPLITS)
    assert {image_id.split("/")[0] for image_id in records["test"]} == {"test"}
    assert not any(image_id.startswith("test/") for split in ("train", "validation") for image_id in records[split])
    assert len(records["test"]) == 11
    for label, images in ((0, 34), (1, 34)):
        cut = [example for example in records["validation"].values() if example["label"] == label]
        assert len(cut) in (round(0.1 * images), round(0.1 * images) + 1)


def test_no_patient_stands_in_two_splits(records: Records) -> None:
    seen: dict[bytes, str] = {}
    for split, examples in records.items():
        for example in examples.values():
            if example["patient_id"]:
                assert seen.setdefault(example["patient_id"], split) == split


def test_info_tells_labels_settings_and_fingerprint(kept_data: Path) -> None:
    info = tfds.builder_from_directory(kept_data / "chest_xray_pneumonia" / "32" / "1.0.0").info
    assert info.features["label"].names == ["NORMAL", "PNEUMONIA"]
    assert info.features["finding"].names == ["none", "bacteria", "virus"]
    assert info.features["image"].shape == (32, 32, 1)
    assert info.supervised_keys == ("image", "label")
    settings = {"size": 32, "channels": 1, "fit": "stretch", "split": "patient"}
    assert settings.items() <= info.metadata.items()
    assert re.fullmatch("[0-9a-f]{64}", info.metadata["fingerprint"])


def test_no_local_path_is_written(kept_source: Path, kept_data: Path) -> None:
    for path in kept_data.rglob("*"):
        if path.is_file():
            assert str(kept_source).encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "20-rgb", "size": 20, "channels": 3},
        {"name": "20-pad", "size": 20, "fit": "pad"},
        {"name": "mine", "size": 21, "fit": "crop"},
    ],
)
def test_configs_by_json(settings: dict[str, Any], kept_source: Path, tmp_path: Path) -> None:
    config = Builder.builder_config_cls(**json.loads(json.dumps(settings)))
    builder = build(kept_source, tmp_path, config)
    fit: dict[str, Any] = {"size": 224, "channels": 1, "fit": "stretch"} | settings
    name = fit.pop("name")
    assert builder.info.features["image"].shape == (fit["size"], fit["size"], fit["channels"])
    for path, example in files_of(kept_source, read(tmp_path, name)):
        np.testing.assert_array_equal(example["image"], radiograph(path.read_bytes(), **fit).pixels)


def test_the_sources_own_split(kept_source: Path, tmp_path: Path) -> None:
    build(kept_source, tmp_path, RadiographConfig(name="8-source", size=8, split="source"))
    records = read(tmp_path, "8-source")
    for split in SPLITS:
        assert {image_id.split("/")[0] for image_id in records[split]} == {split}
    assert len(records["validation"]) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "x", "size": 0}, "size=0; expected a whole number of pixels, 1 to 4096"),
        ({"name": "x", "size": "64"}, "size='64'"),
        ({"name": "x", "channels": 4}, "channels=4"),
        ({"name": "x", "fit": "squeeze"}, "fit='squeeze'; expected one of stretch, pad, crop"),
        ({"name": "x", "split": "random"}, "split='random'; expected one of patient, source"),
        (
            {"name": "512"},
            r"""config '512' has size=224\. Write what its name says, --config '\{"name": "512", "size": 512\}', or""",
        ),
        ({"name": "512", "size": 224}, "config '512' has size=224"),
        ({"name": "224-rgb"}, "config '224-rgb' has channels=1"),
        ({"name": "512-pad", "fit": "pad"}, "config '512-pad' has size=224"),
        ({"name": "224-source"}, "config '224-source' has split='patient'"),
        ({"name": "a/b"}, "config name 'a/b'; expected letters, digits"),
        ({"name": ".."}, r"config name '\.\.'"),
        ({"name": ""}, "config name ''"),
        ({"name": 512, "size": 512}, "config name 512"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Builder.builder_config_cls(**settings)


GET_THE_DATA = "Get the data: kaggle datasets download paultimothymooney/chest-xray-pneumonia"
NO_FOLDER = "It does not exist."


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("nowhere", NO_FOLDER),
        ("empty", "Found there: nothing"),
        ("archive.zip", "It is a file."),
        ("pictures", "Found there: a.jpeg, b.jpeg"),
        (None, NO_FOLDER),  # --manual_dir not given
    ],
)
def test_no_source_is_told_with_folder_layout_and_where_to_get_it(
    place: str | None, found: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "archive.zip").write_bytes(b"PK")
    draw(tmp_path / "pictures" / "a.jpeg")
    draw(tmp_path / "pictures" / "b.jpeg")
    looked_in = tmp_path / "data" / "downloads" / "manual" if place is None else tmp_path / place
    with pytest.raises(MissingData) as caught:
        build(None if place is None else looked_in, tmp_path / "data")
    message = str(caught.value)
    assert message.startswith(f"No radiographs in {looked_in}\n{found}\nExpected layout:\n  chest_xray/\n    train/\n")
    assert f"\n\n{GET_THE_DATA}" in message
    assert "tfds build chest_xray_pneumonia --imports cxr_tfds.builders --manual_dir FOLDER" in message
    assert "cxr-data phantom --out FOLDER" in message
    assert_nothing_published(tmp_path / "data")


def test_a_missing_class_folder(source: Path, tmp_path: Path) -> None:
    shutil.rmtree(source / "chest_xray/test/NORMAL")
    with pytest.raises(
        InputError, match=r"chest_xray/test holds no folder NORMAL\.\nFound there: PNEUMONIA/\nExpected"
    ):
        build(source, tmp_path / "data")
    assert_nothing_published(tmp_path / "data")


def test_all_bad_files_are_named_at_once_and_nothing_is_left(source: Path, tmp_path: Path) -> None:
    root = source / "chest_xray"
    whole = (root / "train/NORMAL/IM-0001-0001.jpeg").read_bytes()
    bad = {
        root / "train/NORMAL/IM-0001-0001.jpeg": (b"", "is empty (0 bytes)"),
        root / "train/NORMAL/IM-0002-0001.jpeg": (whole[:-60], "cannot be decoded as JPEG: "),
        root / "train/PNEUMONIA/notes.txt": (b"see ward 3", "is no image of a known format"),
        root / "val/NORMAL/IM-0031-0001.jpeg": (b"<html>404</html>", "is no image of a known format"),
    }
    for path in (root / "test/NORMAL").iterdir():
        bad[path] = (b"", "is empty (0 bytes)")
    for path in (root / "test/PNEUMONIA").iterdir():  # with it the whole split: TFDS by itself would stop there
        bad[path] = (whole[:100], "")
    for path, (content, _) in bad.items():
        path.write_bytes(content)
    lost = root / "train/PNEUMONIA/person7_virus_1.jpeg"
    lost.symlink_to(tmp_path / "unmounted" / "x.jpeg")
    with pytest.raises(InputError) as caught:
        build(source, tmp_path / "data")
    first, *rows, last = str(caught.value).splitlines()
    assert first == f"{len(bad) + 1} files cannot be used:"
    assert last == "Nothing was built. Replace or remove what is listed and build again."
    assert len(rows) == len(bad) + 1
    for path, (_, reason) in bad.items():
        assert [row for row in rows if row.startswith(f"  {path} {reason}")], path
    assert f"  {lost} cannot be read: No such file or directory" in rows
    assert_nothing_published(tmp_path / "data")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(source: Path, tmp_path: Path) -> None:
    (source / "chest_xray/train/NORMAL/IM-0001-0001.jpeg").chmod(0)
    with pytest.raises(InputError, match=r"1 file cannot be used:\n.*IM-0001-0001\.jpeg cannot be read: Permission"):
        build(source, tmp_path / "data")


def test_building_goes_on_once_the_source_is_mended(source: Path, tmp_path: Path) -> None:
    path = source / "chest_xray/train/NORMAL/IM-0001-0001.jpeg"
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"^1 file cannot be used"):
        build(source, tmp_path / "data")
    draw(path)
    build(source, tmp_path / "data")
    assert sum(map(len, read(tmp_path / "data").values())) == 74


def test_the_same_builder_object_can_try_again(source: Path, tmp_path: Path) -> None:
    path = source / "chest_xray/train/NORMAL/IM-0001-0001.jpeg"
    path.write_bytes(b"")
    builder = Builder(data_dir=tmp_path / "data", config=SMALL)
    config = tfds.download.DownloadConfig(manual_dir=source)
    with pytest.raises(InputError, match="is empty"):
        builder.download_and_prepare(download_config=config)
    draw(path)
    builder.download_and_prepare(download_config=config)
    assert builder.info.splits.total_num_examples == 74


@pytest.mark.parametrize("copies", [0, 2])
def test_a_lost_example_is_noticed(copies: int, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = "test/NORMAL/IM-0033-0001.jpeg"
    whole = Builder._generate_examples

    def faulty(self: Builder, images: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        for key, example in whole(self, images):
            for copy in range(copies if key == lost else 1):
                yield f"{key}{copy}", example

    monkeypatch.setattr(Builder, "_generate_examples", faulty)
    written = 9 + copies
    named = lost if not copies else ""
    message = (
        rf"split test: 10 images in the source, {written} examples written; missing \[.*{named}.*\], unexpected \[\]"
    )
    with pytest.raises(InputError, match=message):
        build(source, tmp_path / "data")
    assert_nothing_published(tmp_path / "data")


def test_a_patient_in_train_and_test_is_refused_unless_asked_for(source: Path, tmp_path: Path) -> None:
    draw(source / "chest_xray/test/PNEUMONIA/person1_bacteria_999.jpeg")
    with pytest.raises(InputError, match=r"1 patient stands in two splits:\n  bacteria-1: .* and test\n.*") as caught:
        build(source, tmp_path / "data")
    (option,) = re.findall(r"--config '(.*)'", str(caught.value))
    build(source, tmp_path / "data", RadiographConfig(**json.loads(option)))


def test_max_examples_per_split(source: Path, tmp_path: Path) -> None:
    build(source, tmp_path / "data", max_examples_per_split=3)
    assert {split: len(examples) for split, examples in read(tmp_path / "data").items()} == dict.fromkeys(SPLITS, 3)


def test_no_examples_at_all_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="max_examples_per_split=0; a dataset needs 1 or more"):
        build(source, tmp_path / "data", max_examples_per_split=0)
    assert_nothing_published(tmp_path / "data")


def test_other_record_formats_are_refused(source: Path, tmp_path: Path) -> None:
    builder = Builder(data_dir=tmp_path / "data", config=SMALL, file_format="array_record")
    with pytest.raises(InputError, match="file format 'array_record'; only 'tfrecord'"):
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=source))
    assert_nothing_published(tmp_path / "data")


def test_a_built_dataset_is_used_again(source: Path, tmp_path: Path) -> None:
    build(source, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("chest_xray_pneumonia/32/1.0.0/*")}
    shutil.rmtree(source)
    build(source, tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("chest_xray_pneumonia/32/1.0.0/*")}


def test_a_name_does_not_stand_for_two_settings(source: Path, tmp_path: Path) -> None:
    build(source, tmp_path, RadiographConfig(name="mine", size=8))
    with pytest.raises(
        InputError, match=r"mine/1\.0\.0 was built with size=8; this config asks for 16\. Give the config"
    ):
        build(source, tmp_path, RadiographConfig(name="mine", size=16))


def test_the_fingerprint_follows_the_content(source: Path, tmp_path: Path) -> None:
    def fingerprint(data_dir: str, config: RadiographConfig = SMALL, **options: Any) -> str:
        return build(source, tmp_path / data_dir, config, **options).info.metadata["fingerprint"]

    first = fingerprint("a")
    moved = source.rename(tmp_path / "elsewhere")
    moved.rename(source)
    assert fingerprint("b", num_shards=3) == first
    assert fingerprint("c", RadiographConfig(name="31", size=31)) != first
    draw(source / "chest_xray/train/NORMAL/IM-0001-0001.jpeg", size=(41, 30))
    assert fingerprint("d") != first


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason=f"no real images in {ORIGINALS}")
def test_real_originals(tmp_path: Path) -> None:
    for class_name in Builder.CLASSES:
        folder = tmp_path / "source" / "train" / class_name
        folder.mkdir(parents=True)
        for path in sorted((ORIGINALS / "chest_xray" / "train" / class_name).iterdir())[:10]:
            (folder / path.name).symlink_to(path)
    build(tmp_path / "source", tmp_path / "data", "224")
    records = read(tmp_path / "data", "224")
    assert sum(map(len, records.values())) == 20
    for split, examples in records.items():
        for image_id, example in examples.items():
            wanted = radiograph((tmp_path / "source" / image_id).read_bytes(), 224)
            np.testing.assert_array_equal(example["image"], wanted.pixels)
            assert example["patient_id"], (split, image_id)


def tfds_build(*args: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`tfds build`, both streams as they come on screen."""
    return subprocess.run(
        [sys.executable, "-m", "tensorflow_datasets.scripts.cli.main", "build", *args],
        cwd=cwd,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_a_bare_build_from_the_repository_makes_224_only(source: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    done = tfds_build("builders/chest_xray_pneumonia", "--manual_dir", source, "--data_dir", data_dir, cwd=REPOSITORY)
    assert done.returncode == 0, done.stdout
    assert [path.relative_to(data_dir).as_posix() for path in data_dir.glob("*/[!.]*/*") if path.is_dir()] == [
        "chest_xray_pneumonia/224/1.0.0"
    ]
    assert read(data_dir, "224")["test"]["test/NORMAL/IM-0033-0001.jpeg"]["image"].shape == (224, 224, 1)


def test_a_build_from_elsewhere_gives_the_same_dataset(kept_source: Path, kept_data: Path, tmp_path: Path) -> None:
    config = '{"name": "32", "size": 32}'
    args = ("--imports", "cxr_tfds.builders", "--manual_dir", kept_source, "--data_dir", tmp_path, "--config", config)
    done = tfds_build("chest_xray_pneumonia", *args, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    metadata = [
        json.loads((folder / "chest_xray_pneumonia/32/1.0.0/metadata.json").read_text(encoding="utf-8"))
        for folder in (kept_data, tmp_path)
    ]
    assert metadata[0] == metadata[1]  # with the fingerprint, though the order of fields in a record differs


def test_a_failed_build_exits_with_1_and_its_message_last(source: Path, tmp_path: Path) -> None:
    path = source / "chest_xray/train/NORMAL/IM-0001-0001.jpeg"
    path.write_bytes(b"")
    args = ("--imports", "cxr_tfds.builders", "--manual_dir", source, "--data_dir", tmp_path / "data")
    failed = tfds_build("chest_xray_pneumonia", *args, cwd=tmp_path)
    assert failed.returncode == 1
    assert failed.stdout.endswith(
        f"1 file cannot be used:\n  {path} is empty (0 bytes)\n"
        "Nothing was built. Replace or remove what is listed and build again.\n"
    )
    assert_nothing_published(tmp_path / "data")
