"""Builds of CheXpert-v1.0-small: uncertain and blank cells, views, patients, valid.csv."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from helpers.sources import DrawnSource, build, draw_image, published, read

from cxr_tfds.builders.chexpert_small.chexpert_small_dataset_builder import OBSERVATIONS, Builder
from cxr_tfds.errors import InputError, MissingData

ROOT = "CheXpert-v1.0-small"
HEADER = ",".join(("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *OBSERVATIONS))


def get_row(path: str, **states: str) -> str:
    cells = [states.get(name.replace(" ", "_"), "") for name in OBSERVATIONS]
    view = "Frontal,AP" if "frontal" in path else "Lateral,"
    return ",".join((path, "Female", "68", view, *cells))


def draw(folder: Path, root: str = ROOT) -> Path:
    """Draws 20 training patients with two frontal images, four of them with a lateral one, too.

    valid.csv has four patients of one frontal image each.
    """
    train, valid = [HEADER], [HEADER]
    for i in range(20):
        study = f"{ROOT}/train/patient{i + 1:05}/study1"
        states = {"No_Finding": "1.0"} if i % 2 else {"Cardiomegaly": "-1.0", "Edema": "1.0"}
        views = ["view1_frontal", "view2_frontal"] + ["view3_lateral"] * (i < 4)
        train += [get_row(f"{study}/{view}.jpg", **states) for view in views]
    for i in range(4):
        path = f"{ROOT}/valid/patient{64541 + i}/study1/view1_frontal.jpg"
        valid.append(get_row(path, **{name.replace(" ", "_"): "0.0" for name in OBSERVATIONS}))
    for row in train[1:] + valid[1:]:
        image = folder / root / row.split(",")[0].removeprefix(f"{ROOT}/")
        number = row.split("/")[2][-2:]
        draw_image(image.with_name(f"{number}{image.name}")).rename(image)  # noise depends on name
    (folder / root / "train.csv").write_text("\n".join(train))
    (folder / root / "valid.csv").write_text("\n".join(valid))
    return folder


@pytest.mark.slow
class ChexpertSmallTest(DrawnSource, tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 36, "validation": 4, "test": 4}  # noqa: RUF012
    draw = staticmethod(draw)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("source"))


@pytest.mark.slow
def test_states_of_named_images(source: Path, tmp_path: Path) -> None:
    builder = build(Builder, source, tmp_path)
    findings = builder.info.features["label"].names
    assert tuple(findings) == OBSERVATIONS[1:]
    records = read(builder.data_path)
    examples = {name: x for examples in records.values() for name, x in examples.items()}

    def get_states(name: str) -> dict[str, int]:
        return dict(zip(findings, examples[name]["states"], strict=True))

    mentioned = get_states(f"train/{ROOT}/train/patient00001/study1/view1_frontal.jpg")
    assert (mentioned.pop("Cardiomegaly"), mentioned.pop("Edema")) == (-1, 1)
    assert set(mentioned.values()) == {-2}  # blank: unknown
    normal = get_states(f"train/{ROOT}/train/patient00002/study1/view1_frontal.jpg")
    assert set(normal.values()) == {0}  # "No Finding"
    test = get_states(f"test/{ROOT}/valid/patient64541/study1/view1_frontal.jpg")
    assert set(test.values()) == {0}


@pytest.mark.slow
def test_no_finding_as_an_observation(source: Path, tmp_path: Path) -> None:
    builder = build(Builder, source, tmp_path, negative="")
    assert tuple(builder.info.features["label"].names) == OBSERVATIONS
    examples = {name: x for part in read(builder.data_path).values() for name, x in part.items()}
    states = examples[f"train/{ROOT}/train/patient00002/study1/view1_frontal.jpg"]["states"]
    assert states.tolist() == [1] + [-2] * 13


@pytest.mark.slow
def test_valid_csv_is_kept_apart(source: Path, tmp_path: Path) -> None:
    records = read(build(Builder, source, tmp_path).data_path)
    assert {name.split("/")[2] for name in records["test"]} == {"valid"}
    assert {name.split("/")[2] for name in records["validation"]} == {"train"}
    patients = [{x["patient_id"] for x in examples.values()} for examples in records.values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 24
    assert b"chexpert-64541" in set.union(*patients)
    records = read(build(Builder, source, tmp_path, name="32-source", split="source").data_path)
    assert {split: len(examples) for split, examples in records.items()} == {
        "train": 40,
        "validation": 4,
    }


@pytest.mark.slow
def test_lateral_images_are_a_choice(source: Path, tmp_path: Path) -> None:
    builder = Builder(data_dir=tmp_path)
    listing = builder.scan(source)
    assert not any("lateral" in image.image_id for image in listing.images)
    assert len(listing.left_out["by the settings include and exclude"]) == 4
    records = read(build(Builder, source, tmp_path, views=["frontal", "lateral"]).data_path)
    names = [name for examples in records.values() for name in examples]
    assert sum("lateral" in name for name in names) == 4
    with pytest.raises(InputError, match="views='PA'; expected a list of frontal, lateral"):
        build(Builder, source, tmp_path, views="PA")


@pytest.mark.slow
def test_reads_the_folder_without_its_name(tmp_path: Path) -> None:
    source = draw(tmp_path / "source", root="")
    records = read(build(Builder, source, tmp_path / "data").data_path)
    assert "test/valid/patient64541/study1/view1_frontal.jpg" in records["test"]


def test_reads_tables_without_some_observations(tmp_path: Path) -> None:
    source = draw(tmp_path / "source")
    for name in ("train.csv", "valid.csv"):
        rows = [line.split(",") for line in (source / ROOT / name).read_text().splitlines()]
        kept = 10 if name == "train.csv" else 11  # up to Lung Lesion, or Edema
        text = "\n".join(",".join(row[:kept]) for row in rows)
        (source / ROOT / name).write_text(text)
    listing = Builder(data_dir=tmp_path / "data").scan(source)
    assert listing.classes == OBSERVATIONS[1:6]
    states = {image.image_id: image.states for image in listing.images}
    train = states[f"train/{ROOT}/train/patient00001/study1/view1_frontal.jpg"]
    assert train == (-2, -1, -2, -2, -2)
    assert states[f"test/{ROOT}/valid/patient64541/study1/view1_frontal.jpg"] == (0,) * 5
    assert sum("has no column" in note for note in listing.notes) == 2


def test_refuses_another_state(tmp_path: Path) -> None:
    source = draw(tmp_path / "source")
    table = source / ROOT / "train.csv"
    table.write_text(table.read_text().replace("-1.0", "maybe", 1))
    with pytest.raises(
        InputError, match=r"train\.csv, line 2: 'Cardiomegaly' has the value 'maybe'\. Expected 1"
    ):
        build(Builder, source, tmp_path / "data")
    assert not published(tmp_path / "data")


def test_reports_missing_data(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"does not exist(.*\n)+Accept the research use"):
        build(Builder, tmp_path / "nowhere", tmp_path / "data")
