"""`Augment` and `findings_loss` in saved Keras models: exact copies, loaded by any process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import cxr_tfds as cxr

SETTINGS = cxr.AugmentSettings(rotation_deg=7.5, flip=0.5, fill="reflect", noise=0.1)
LAYERS = {
    "preset": lambda: cxr.Augment("classic", seed=3, name="first"),
    "settings": lambda: cxr.Augment(SETTINGS, seed=3),
    "random seed": lambda: cxr.Augment(SETTINGS),
    "dtype": lambda: cxr.Augment(SETTINGS, seed=0, dtype="mixed_bfloat16"),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_copies_are_exact(kind: str) -> None:
    layer = LAYERS[kind]()
    for copy in (
        cxr.Augment.from_config(layer.get_config()),
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer)),
    ):
        assert copy.get_config() == layer.get_config()
        assert (copy.settings, copy.seed, copy.name) == (layer.settings, layer.seed, layer.name)
        assert copy.compute_dtype == layer.compute_dtype


def make_model() -> keras.Model:
    layers = [keras.Input((16, 16, 1)), cxr.Augment(SETTINGS, seed=3), keras.layers.Flatten()]
    return keras.Sequential([*layers, keras.layers.Dense(2)])


@pytest.mark.slow
def test_a_loaded_model_starts_the_draws_again(tmp_path: Path) -> None:
    """Like Keras's own random layers, whose seeds are not saved either."""
    model = make_model()
    images = np.random.default_rng(0).uniform(0, 255, (4, 16, 16, 1)).astype(np.float32)
    first, second = (np.asarray(model(images, training=True)) for _ in range(2))
    assert not np.array_equal(first, second)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(loaded(images, training=True)), first)
    clone = keras.models.clone_model(model)
    assert clone.layers[0].get_config() == model.layers[0].get_config()


LOAD = """
from cxr_tfds import Augment, findings_loss
import keras
import numpy as np
model = keras.models.load_model({path!r})
print([type(layer).__name__ for layer in model.layers], model.loss.__name__)
np.save({path!r} + ".npy", model.predict(np.ones((2, 16, 16, 1)), verbose=0))
"""


@pytest.mark.slow
def test_a_process_that_imports_the_names_loads_the_model(tmp_path: Path) -> None:
    model = make_model()
    model.compile("sgd", loss=cxr.findings_loss)
    path = tmp_path / "model.keras"
    model.save(path)
    code = LOAD.format(path=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['Augment', 'Flatten', 'Dense'] findings_loss"
    expected = model.predict(np.ones((2, 16, 16, 1)), verbose=0)
    np.testing.assert_allclose(np.load(f"{path}.npy"), expected, rtol=1e-5)


# Keras warns about every tf.data.Dataset given to `fit`.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
def test_a_model_fed_with_augmented_batches_loads_without_the_package(tmp_path: Path) -> None:
    """The other way of docs/api.md: the layer is in the pipeline, not in the model."""
    import tensorflow as tf

    augment = cxr.Augment(SETTINGS, seed=0)
    pixels = np.full((8, 16, 16, 1), 128, np.uint8)
    batches = tf.data.Dataset.from_tensor_slices((pixels, np.zeros((8, 1), np.float32))).batch(4)
    augmented = batches.map(lambda images, labels: (augment(images), labels))
    first, second = (images for images, _ in augmented.as_numpy_iterator())
    assert not np.array_equal(first, second)
    model = keras.Sequential([keras.Input((16, 16, 1)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(1))
    model.compile("sgd", loss="mse")
    model.fit(augmented, verbose=0)
    path = tmp_path / "model.keras"
    model.save(path)
    code = (
        "import sys; sys.modules['cxr_tfds'] = None; import keras; "
        f"keras.models.load_model({str(path)!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
