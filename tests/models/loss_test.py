"""The loss of several findings by hand, and in Keras's own training loop."""

import keras
import numpy as np
import pytest

import cxr_tfds as cxr

NAN = np.nan


def test_averages_over_the_findings_that_count():
    targets = np.array([[1, 0, NAN], [NAN, NAN, NAN], [NAN, 1, NAN]], np.float32)
    logits = np.log(np.array([[3, 1, 9], [3, 3, 3], [1, 3, 1]], np.float32))
    expected = [(np.log(4 / 3) + np.log(2)) / 2, 0, np.log(4 / 3)]
    np.testing.assert_allclose(cxr.findings_loss(targets, logits), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
def test_any_keras_model_learns_from_the_batches(findings_data):
    data = cxr.open_dataset("xray_table/64", findings_data)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(8, 7, strides=4, activation="relu"),
            keras.layers.GlobalMaxPooling2D(),
            keras.layers.Dense(3),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), loss=cxr.findings_loss)
    history = model.fit(
        data.train(16),
        steps_per_epoch=6,
        epochs=4,
        validation_data=data.batches("validation"),
        verbose=0,
    ).history
    assert np.isfinite(history["loss"] + history["val_loss"]).all()
    assert history["loss"][-1] < history["loss"][0]
    assert np.isfinite(model.evaluate(data.batches("test"), verbose=0))
    assert model.predict(data.batches("test"), verbose=0).shape == (48, 3)
