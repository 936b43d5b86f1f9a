"""The public API: lazy names, and the way from a dataset to any Keras model and back."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cxr_tfds as cxr

HEAVY = ("tensorflow", "keras", "click", "numpy")


def run_python(code: str) -> str:
    """Returns what `code` prints in a new process."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_loads_no_other_package() -> None:
    code = f"import sys, cxr_tfds; print([name for name in {HEAVY} if name in sys.modules])"
    assert run_python(code) == "[]"


@pytest.mark.parametrize("name", ["Classifier", "Shard", "AugmentSettings", "open_dataset"])
def test_light_names_load_neither_tensorflow_nor_click(name: str) -> None:
    code = (
        f"import sys, cxr_tfds; cxr_tfds.{name}; "
        "print([name for name in ('tensorflow', 'keras', 'click') if name in sys.modules])"
    )
    assert run_python(code) == "[]"


@pytest.mark.parametrize("name", cxr.__all__)
def test_every_name_resolves_and_is_listed(name: str) -> None:
    assert getattr(cxr, name) is getattr(cxr, name)
    assert name in dir(cxr)


def test_star_import_gives_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from cxr_tfds import *", names)
    assert set(cxr.__all__) <= set(names)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="module 'cxr_tfds' has no attribute 'fit'"):
        cxr.fit  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'fit'"):
        exec("from cxr_tfds import fit")


STATEMENTS = (
    "function = cxr_tfds.export",
    "import cxr_tfds.export.edge",
    "from cxr_tfds.export.edge import classifier",
    "from cxr_tfds import export",
)


@pytest.mark.parametrize("order", list(itertools.permutations(STATEMENTS, 2)))
def test_export_is_callable_in_every_import_order(order: tuple[str, ...]) -> None:
    lines = "\n".join(("import cxr_tfds", *order))
    code = f"{lines}\nassert cxr_tfds.export is __import__('sys').modules['cxr_tfds.export']\n"
    assert run_python(f"{code}print(callable(cxr_tfds.export))") == "True"


def test_export_calls_export_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from cxr_tfds.export import pack

    monkeypatch.setattr(pack, "export_run", lambda *args, **kwargs: (args, kwargs))
    found = cxr.export("runs/first", "models", formats=["int8"])
    assert found == (("runs/first", "models"), {"formats": ["int8"]})


@pytest.fixture(scope="module")
def data(built: Path) -> cxr.BuiltDataset:
    return cxr.open_dataset("chest_xray_pneumonia/64", str(built))


# Keras warns about every tf.data.Dataset given to `fit`.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
def test_fit_evaluate_and_predict_take_the_batches(data: cxr.BuiltDataset) -> None:
    import keras

    model = keras.Sequential(
        [
            keras.Input(data.shape, dtype="uint8"),
            cxr.Augment("default", seed=0),
            keras.layers.Rescaling(1 / 255),
            keras.layers.AveragePooling2D(16),
            keras.layers.Flatten(),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer="sgd", loss="binary_crossentropy", metrics=["accuracy"])
    history = model.fit(
        data.train(batch_size=32, seed=0),
        steps_per_epoch=2,
        validation_data=data.batches("validation"),
        verbose=0,
    ).history
    assert np.isfinite(history["loss"] + history["val_loss"]).all()
    loss, accuracy = model.evaluate(data.batches("test"), verbose=0)
    scores = model.predict(data.batches("test"), verbose=0)
    labels = np.concatenate([labels for _, labels in data.batches("test").as_numpy_iterator()])
    assert scores.shape == labels.shape == (40, 1)
    expected = -np.log(np.where(labels == 1, scores, 1 - scores)).mean()
    assert loss == pytest.approx(expected, rel=1e-4)
    assert accuracy == pytest.approx(((scores > 0.5) == labels).mean())


def test_open_dataset_refuses_a_name_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(cxr.InputError, match="Invalid dataset name 'a/b/c'"):
        cxr.open_dataset("a/b/c", tmp_path)
    with pytest.raises(cxr.MissingData, match=r"is not built in .*Build it with"):
        cxr.open_dataset("chest_xray_pneumonia/224", tmp_path)


@pytest.mark.slow
def test_train_evaluate_export_and_a_bad_file(
    data: cxr.BuiltDataset, tiny_model: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    metrics = cxr.train(
        data, out=str(run), model=tiny_model, epochs=1, batch_size=16, augment="none"
    )
    assert metrics["test"]["images"] == 40
    assert cxr.evaluate(str(run), "test")["images"] == 40
    from cxr_tfds.export.pack import Limits

    limits = Limits(max_auc_drop=1, min_agreement=0)
    (exported,) = cxr.export(str(run), tmp_path / "out", formats=["float32"], limits=limits)
    classifier = cxr.Classifier(exported.path)
    bad = tmp_path / "x.jpg"
    bad.write_bytes(b"not an image")
    with pytest.raises(cxr.BadImage) as caught:
        classifier(bad)
    assert caught.value.path == str(bad)
    assert str(caught.value).startswith(f"{bad}: ")
