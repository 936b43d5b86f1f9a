"""Normal radiographs of a Kaggle pneumonia folder: where they are found, and which are drawn."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

import pytest

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.sources import SourceImage
from cxr_tfds.sources.kermany import parse_names
from cxr_tfds.sources.normals import draw_normals, find_normals


def files(*patients: int) -> list[SourceImage]:
    """Returns the given numbers of images of patients 0, 1, …"""
    names = [
        f"IM-{patient:04}-{n:04}.jpeg"
        for patient, count in enumerate(patients)
        for n in range(count)
    ]
    return parse_names(
        SourceImage(Path(name), "train", "NORMAL", f"train/NORMAL/{name}") for name in names
    )


def ids(drawn: list[SourceImage]) -> list[str]:
    return [file.image_id for file in drawn]


def test_draws_each_patient_once_before_any_twice() -> None:
    pool = files(5, 1, 3, 1)
    for seed in range(10):
        turns = [
            Counter(image.patient_id for image in draw_normals(pool, count, seed))
            for count in range(1, 11)
        ]
        assert [sorted(turn.values()) for turn in turns[:6]] == [
            [1],
            [1, 1],
            [1] * 3,
            [1] * 4,
            [1, 1, 1, 2],
            [1, 1, 2, 2],
        ]
        assert turns[9] == {f"IM-{patient:04}": count for patient, count in enumerate((5, 1, 3, 1))}


def test_draw_depends_on_the_seed_not_on_the_order() -> None:
    pool = files(*[2] * 30)
    drawn = ids(draw_normals(pool, 10, seed=3))
    assert drawn == ids(draw_normals(pool[::-1], 10, seed=3))
    assert set(drawn) != set(ids(draw_normals(pool, 10, seed=4)))
    assert (
        drawn == ids(draw_normals(pool, 20, seed=3))[:10]
    )  # a larger draw contains the smaller one
    assert len(set(ids(draw_normals(pool, 60, seed=3)))) == 60


def test_counts_an_unknown_patient_per_image() -> None:
    pool = [
        SourceImage(Path(f"{n}.jpg"), "train", "NORMAL", f"train/NORMAL/{n}.jpg") for n in range(4)
    ]
    assert len(draw_normals(pool, 4, seed=0)) == 4


def lay_out(folder: Path, normal: str = "NORMAL", other: str = "PNEUMONIA") -> Path:
    for split in ("train", "test"):
        for name in (normal, other):
            (folder / split / name).mkdir(parents=True)
            (folder / split / name / f"IM-{len(split):04}-0001.jpeg").write_bytes(b"x")
    return folder


@pytest.mark.parametrize("names", [("NORMAL", "PNEUMONIA"), ("Normal", "Opacity")])
def test_finds_the_first_folder_with_normals(names: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    place = lay_out(tmp_path / "here" / "chest_xray", *names).parent
    later = lay_out(tmp_path / "later")
    found, normals = find_normals([tmp_path / "nowhere", tmp_path / "empty", place, later], "")
    assert found == place
    assert ids(normals) == ["test/NORMAL/IM-0004-0001.jpeg", "train/NORMAL/IM-0005-0001.jpeg"]


def test_finds_normals_in_a_zip(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "chest_xray")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        for path in folder.rglob("*.jpeg"):
            archive.write(path, path.relative_to(tmp_path))
    assert len(find_normals([tmp_path / "archive.zip"], "")[1]) == 2


def test_refuses_missing_and_incomplete_folders(tmp_path: Path) -> None:
    with pytest.raises(
        MissingData, match=rf"^No normal .*\n  {tmp_path}/a\n  {tmp_path}/b\nPut it there\.$"
    ):
        find_normals([tmp_path / "a", tmp_path / "b"], "Put it there.")
    (lay_out(tmp_path / "c") / "train" / "NORMAL" / "IM-0005-0001.jpeg").unlink()
    with pytest.raises(InputError, match="train/NORMAL contains no images"):
        find_normals([tmp_path / "c"], "")
