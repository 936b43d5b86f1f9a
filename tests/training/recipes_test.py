"""Recipes state the published settings and are valid."""

import dataclasses
import subprocess
import sys

import pytest

from cxr_tfds.models import MODELS, check_shape
from cxr_tfds.training.recipes import RECIPES
from cxr_tfds.training.settings import TrainSettings


def settings(name, **changes):
    recipe = RECIPES[name]
    return TrainSettings(
        dataset="d/224", data_dir="data", model=recipe.model, **recipe.settings | changes
    )


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_settings_are_valid(name):
    recipe = RECIPES[name]
    assert dataclasses.asdict(settings(name)).items() >= recipe.settings.items()
    check_shape(recipe.model, (recipe.size, recipe.size, recipe.channels))


def test_every_model_without_pretrained_weights_has_a_recipe():
    assert set(RECIPES) == {name for name, entry in MODELS.items() if not entry.pretrained}


def test_recipe_of_edge_is_the_default():
    assert RECIPES["edge"].settings == {}
    assert TrainSettings(dataset="d/224", data_dir="data").model == RECIPES["edge"].model


@pytest.mark.parametrize(
    ("name", "images", "published"),
    [
        (
            "xray-cnn5",
            (500, 1),
            {
                "optimizer": "adam",
                "batch_size": 16,
                "epochs": 25,
                "early_stopping": 3,
                "schedule": "plateau",
            },
        ),
        (
            "xray-cnn5",
            (500, 1),
            {"class_weight": "balanced", "augment": "classic", "steps_per_epoch": None},
        ),
        (
            "covid-cnn4",
            (224, 3),
            {"optimizer": "adam", "batch_size": 32, "epochs": 10, "steps_per_epoch": 8},
        ),
        (
            "covid-cnn4",
            (224, 3),
            {"schedule": "constant", "early_stopping": 0, "class_weight": "none"},
        ),
        (
            "pneumonia-cnn1",
            (64, 3),
            {"optimizer": "adam", "batch_size": 32, "epochs": 10, "early_stopping": 0},
        ),
    ],
)
def test_recipe_states_the_published_settings(name, images, published):
    assert (RECIPES[name].size, RECIPES[name].channels) == images
    chosen = dataclasses.asdict(settings(name))
    assert {field: chosen[field] for field in published} == published
    assert (chosen["learning_rate"], chosen["weight_decay"]) == (
        1e-3,
        0,
    )  # Keras's defaults of Adam


def test_recipes_load_neither_keras_nor_numpy():
    code = (
        "import sys, cxr_tfds.training.recipes\n"
        "print({'keras', 'tensorflow', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
