"""Public sets whose labels are in tables, drawn as they are published."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers.tables import config_of, read

from cxr_tfds.errors import InputError
from cxr_tfds.sources.image import State

pytestmark = pytest.mark.slow

_MAKE = Path(__file__).parents[4] / "shared" / "layouts" / "make.py"
_NAMES = ("nih", "nih_flat", "rsna", "chexpert", "covidx", "coronahack")
_CHEXPERT = {"train": "train.csv", "validation": "valid.csv"}


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    if not _MAKE.is_file():
        pytest.skip(f"no {_MAKE}")
    folder = tmp_path_factory.mktemp("layouts")
    subprocess.run([sys.executable, _MAKE, folder, *_NAMES], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("name", ["nih", "nih_flat"])
def test_nih(layouts: Path, name: str) -> None:
    lists = {"train": "train_val_list.txt", "test": "test_list.txt"}
    listing = read(layouts / name, table="Data_Entry_2017.csv", split_lists=lists)
    assert listing.classes == ("Cardiomegaly", "Effusion", "Hernia", "Infiltration", "Nodule")
    assert Counter(image.split for image in listing.images) == {"train": 39, "test": 21}
    present = [
        sum(column) for column in zip(*(image.states for image in listing.images), strict=True)
    ]
    assert present == [24, 12, 12, 12, 12]
    assert len({image.patient_id for image in listing.images}) == 20
    assert not listing.left_out


def test_rsna(layouts: Path) -> None:
    listing = read(layouts / "rsna", table="stage_2_train_labels.csv")
    assert Counter(image.label for image in listing.images) == {"0": 20, "1": 20}
    assert listing.classes == ("0", "1")
    assert len({image.patient_id for image in listing.images}) == 40
    assert len(listing.left_out["images without a row"]) == 10


@pytest.mark.parametrize("folder", ["chexpert", "chexpert/CheXpert-v1.0-small"])
def test_chexpert(layouts: Path, folder: str) -> None:
    with pytest.raises(InputError, match="which column has the label") as error:
        read(layouts / folder, table=_CHEXPERT)
    config: dict[str, Any] = config_of(error)
    assert config["label"] == ["No Finding", "Cardiomegaly", "Pneumonia", "Pleural Effusion"]
    listing = read(layouts / folder, **config)
    assert listing.classes == ("Cardiomegaly", "Pneumonia", "Pleural Effusion")
    assert Counter((image.split, image.states) for image in listing.images) == {
        ("train", (State.ABSENT, State.ABSENT, State.ABSENT)): 20,
        ("train", (State.UNCERTAIN, State.PRESENT, State.UNKNOWN)): 20,
        ("validation", (State.PRESENT, State.ABSENT, State.ABSENT)): 6,
    }
    assert len({image.patient_id for image in listing.images}) == 46


def test_covidx(layouts: Path) -> None:
    with pytest.raises(InputError, match="which column has the label") as error:
        read(layouts / "covidx", table={"train": "train.txt", "test": "test.txt"})
    listing = read(layouts / "covidx", **config_of(error))
    assert listing.classes == ("negative", "positive")
    assert Counter((image.split, image.label) for image in listing.images) == {
        ("train", "negative"): 20,
        ("train", "positive"): 20,
        ("test", "negative"): 6,
        ("test", "positive"): 6,
    }


def test_coronahack(layouts: Path) -> None:
    listing = read(layouts / "coronahack", table="Chest_xray_Corona_Metadata.csv")
    assert listing.classes == ("Normal", "Pnemonia")
    assert Counter(image.split for image in listing.images) == {"train": 20, "test": 6}
    assert len({image.patient_id for image in listing.images}) == 26
