"""Tests the drawn dataset: layout, patients, seeds, and that only opacities depend on the class."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cxr_tfds.errors import InputError
from cxr_tfds.phantom import dataset as phantom_dataset
from cxr_tfds.phantom import drawing as phantom
from cxr_tfds.sources.kermany import FINDINGS

pytestmark = pytest.mark.slow

NORMAL = re.compile(r"(?P<patient>(NORMAL2-)?IM-\d{4})-(?P<image>\d{4})\.jpeg")
PNEUMONIA = re.compile(r"person(?P<number>\d+)_(?P<type>bacteria|virus)_(?P<image>\d+)\.jpeg")
FEW = {"train": {"NORMAL": 3, "PNEUMONIA": 4}, "test": {"PNEUMONIA": 2}}


def files(out: Path) -> dict[str, bytes]:
    return {
        p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()
    }


def patient(path: Path) -> tuple[str, ...]:
    if match := NORMAL.fullmatch(path.name):
        return (match["patient"],)
    match = PNEUMONIA.fullmatch(path.name)
    assert match, path.name
    return (match["type"], match["number"])


class Drawn(NamedTuple):
    out: Path
    paths: list[Path]
    test: np.ndarray  # bool (N,)
    label: np.ndarray  # bool (N,)
    pixels: np.ndarray  # uint8 (N, 64, 64)
    features: dict[str, np.ndarray]  # each (N,)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    out = tmp_path_factory.mktemp("phantom") / "set"
    phantom_dataset.write_dataset(out, images=phantom_dataset.images_per_split(450, 250), seed=1)
    paths = sorted(out.glob("chest_xray/*/*/*"))
    pixels, rows = [], []
    for path in paths:
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("JPEG", "L")
            quantization = sum(image.quantization[0])  # type: ignore[attr-defined]
            small = np.asarray(image.resize((64, 64), Image.Resampling.BOX))
            pixels.append(small)
            width, height = image.size
        size = path.stat().st_size
        rows.append(
            {
                "width": width,
                "height": height,
                "aspect": width / height,
                "bytes": size,
                "bytes per pixel": size / (width * height),
                "quality": quantization,
                "mean": small.mean(),
                "deviation": small.std(),
                "median": np.median(small),
                "brightest": np.percentile(small, 99),
                "darkest": np.percentile(small, 1),
                "border": np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]]).mean(),
            }
        )
    return Drawn(
        out=out,
        paths=paths,
        test=np.array([p.parent.parent.name == "test" for p in paths]),
        label=np.array([p.parent.name == "PNEUMONIA" for p in paths]),
        pixels=np.array(pixels),
        features={name: np.array([row[name] for row in rows]) for name in rows[0]},
    )


def linear_auc(drawn: Drawn, pixels: np.ndarray) -> float:
    """The best test AUC of logistic regression over weak to strong regularization."""
    x = pixels.reshape(len(pixels), -1) / 255
    x = x - x[~drawn.test].mean(axis=0)
    aucs = []
    for strength in (1e-3, 1e-2, 1e-1):
        model = LogisticRegression(C=strength, max_iter=2000).fit(
            x[~drawn.test], drawn.label[~drawn.test]
        )
        aucs.append(roc_auc_score(drawn.label[drawn.test], model.decision_function(x[drawn.test])))
    return max(aucs)


def halved(pixels: np.ndarray) -> np.ndarray:
    """(N, 64, 64) to (N, 32, 32)."""
    return pixels.reshape(len(pixels), 32, 2, 32, 2).mean(axis=(2, 4))


def test_layout_and_counts(drawn: Drawn) -> None:
    counts = {
        f"{split}/{name}": len(list((drawn.out / "chest_xray" / split / name).iterdir()))
        for split in phantom_dataset.SPLITS
        for name in phantom_dataset.CLASSES
    }
    assert counts == {
        "train/NORMAL": 180,
        "train/PNEUMONIA": 270,
        "val/NORMAL": 8,
        "val/PNEUMONIA": 8,
        "test/NORMAL": 100,
        "test/PNEUMONIA": 150,
    }
    assert sorted(p.name for p in drawn.out.iterdir()) == ["chest_xray", "phantom.json"]
    assert [p.name for p in drawn.out.parent.iterdir()] == ["set"]  # no temporary folder is left


def test_names(drawn: Drawn) -> None:
    for path, pneumonia in zip(drawn.paths, drawn.label, strict=True):
        assert (PNEUMONIA if pneumonia else NORMAL).fullmatch(path.name), path.name
    assert len({p.name for p in drawn.paths}) == len(drawn.paths)
    assert any(p.name.startswith("NORMAL2-IM-") for p in drawn.paths)
    assert any(p.name.startswith("IM-") for p in drawn.paths)
    running = [int(m["image"]) for p in drawn.paths if (m := PNEUMONIA.fullmatch(p.name))]
    assert sorted(running) == list(range(1, len(running) + 1))


def test_each_patient_is_in_one_split(drawn: Drawn) -> None:
    splits: dict[tuple[str, ...], list[str]] = {}
    for path in drawn.paths:
        splits.setdefault(patient(path), []).append(path.parent.parent.name)
    assert all(len(set(found)) == 1 for found in splits.values())
    assert {len(found) for found in splits.values()} == {1, 2, 3, 4}


def test_number_alone_does_not_identify_a_patient(drawn: Drawn) -> None:
    """As in the original, personN of train and personN of test are two patients."""
    numbers: dict[bool, set[str]] = {False: set(), True: set()}
    for path, test in zip(drawn.paths, drawn.test, strict=True):
        if match := PNEUMONIA.fullmatch(path.name):
            numbers[bool(test)].add(match["number"])
    assert numbers[False] & numbers[True]


def test_writes_its_settings(tmp_path: Path) -> None:
    counts = phantom_dataset.write_dataset(tmp_path / "a", images=FEW, seed=5)
    settings = json.loads((tmp_path / "a/phantom.json").read_text(encoding="utf-8"))
    assert settings["seed"] == 5
    assert settings["images"] == counts
    assert counts == {
        "train": {"NORMAL": 3, "PNEUMONIA": 4},
        "val": {"NORMAL": 0, "PNEUMONIA": 0},
        "test": {"NORMAL": 0, "PNEUMONIA": 2},
    }


def test_bytes_depend_on_the_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        phantom_dataset.write_dataset(tmp_path / name, images=FEW, seed=seed)
    a, b, c = (files(tmp_path / name) for name in "abc")
    assert a == b
    images = [data for name, data in a.items() if name.endswith(".jpeg")]
    assert len(images) == 9
    assert not set(images) & set(c.values())
    assert len(set(images)) == len(images)


def test_training_images_do_not_depend_on_test_images(tmp_path: Path) -> None:
    phantom_dataset.write_dataset(tmp_path / "few", images=FEW, seed=5)
    phantom_dataset.write_dataset(
        tmp_path / "more", images={**FEW, "test": {"NORMAL": 3, "PNEUMONIA": 5}}, seed=5
    )
    assert files(tmp_path / "few/chest_xray/train") == files(tmp_path / "more/chest_xray/train")


def test_reports_progress_for_every_image(tmp_path: Path) -> None:
    steps: list[int] = []
    phantom_dataset.write_dataset(tmp_path / "a", images=FEW, progress=steps.append)
    assert steps == [1] * 9


@pytest.mark.parametrize("finding", FINDINGS)
def test_draw_returns_greyscale_of_the_documented_size(finding: str) -> None:
    sizes = set()
    for seed in range(20):
        image = phantom.draw(finding, np.random.default_rng(seed))
        assert image.dtype == np.uint8
        assert image.ndim == 2
        assert min(image.shape) >= 300
        assert max(image.shape) <= 700
        assert image.std() > 20  # neither blank nor overexposed
        sizes.add(image.shape)
    assert len(sizes) > 15


def test_images_of_a_patient_share_only_the_anatomy() -> None:
    chest = phantom.draw_anatomy(np.random.default_rng(0))
    first, second = (phantom.draw("none", np.random.default_rng(s), anatomy=chest) for s in (1, 2))
    assert first.shape != second.shape
    again = phantom.draw("none", np.random.default_rng(1), anatomy=chest)
    np.testing.assert_array_equal(first, again)
    other = phantom.draw("none", np.random.default_rng(1), anatomy=chest._replace(heart=0.5))
    assert np.abs(first.astype(int) - other).max() > 20


def test_no_single_property_predicts_the_class(drawn: Drawn) -> None:
    # With 288 NORMAL and 428 others, the AUC of a random property has a deviation of 0.022.
    for name, values in drawn.features.items():
        auc = roc_auc_score(drawn.label, values)
        assert 0.43 < auc < 0.57, f"{name}: {auc:.3f}"


def test_linear_model_stays_near_chance(drawn: Drawn) -> None:
    assert linear_auc(drawn, halved(drawn.pixels)) <= 0.7
    assert linear_auc(drawn, drawn.pixels) <= 0.7


def test_linear_model_finds_an_added_shortcut(drawn: Drawn) -> None:
    """Shows that the test above can fail: a slightly brighter corner in one class is enough."""
    pixels = halved(drawn.pixels)
    pixels[drawn.label, :4, :4] += 40
    assert linear_auc(drawn, pixels) > 0.9


def test_local_contrast_of_the_lungs_predicts_the_class(drawn: Drawn) -> None:
    lungs = drawn.pixels[:, 16:44, 8:56].astype(float)
    coarse = lungs.reshape(len(lungs), 7, 4, 12, 4).mean(axis=(2, 4))
    rough = np.abs(np.diff(coarse, 2, axis=1)).mean(axis=(1, 2)) / coarse.std(axis=(1, 2))
    assert roc_auc_score(drawn.label, rough) > 0.6


def test_keeps_a_foreign_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/mine.txt").write_text("mine", encoding="utf-8")
    for overwrite, message in ((False, "not empty"), (True, "contains no phantom.json")):
        with pytest.raises(InputError, match=message):
            phantom_dataset.write_dataset(tmp_path / "a", images=FEW, overwrite=overwrite)
    assert files(tmp_path) == {"a/mine.txt": b"mine"}


def test_refuses_a_file_as_output(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"File exists: .*/a\. There is a file of this name\."):
        phantom_dataset.write_dataset(tmp_path / "a", images=FEW, overwrite=True)


def test_overwrite_removes_old_images_and_keeps_other_files(tmp_path: Path) -> None:
    out = tmp_path / "a"
    phantom_dataset.write_dataset(out, images={"train": {"NORMAL": 5, "PNEUMONIA": 5}}, seed=1)
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    phantom_dataset.write_dataset(out, images=FEW, seed=5, overwrite=True)
    phantom_dataset.write_dataset(tmp_path / "fresh", images=FEW, seed=5)
    assert files(out) == {**files(tmp_path / "fresh"), "notes.txt": b"mine"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "fresh"]


def test_interrupted_run_changes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "a"
    phantom_dataset.write_dataset(out, images=FEW, seed=5)
    before = files(tmp_path)

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    for target in (out, tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            phantom_dataset.write_dataset(target, images=FEW, seed=6, overwrite=True, progress=stop)
    assert files(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
