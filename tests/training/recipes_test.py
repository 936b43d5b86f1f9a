"""Recipes: what articles stated, as settings that a run takes."""

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
def test_a_recipe_is_one_a_run_takes(name):
    recipe = RECIPES[name]
    assert dataclasses.asdict(settings(name)).items() >= recipe.settings.items()
    check_shape(recipe.model, (recipe.size, recipe.size, recipe.channels))


def test_every_reference_system_has_a_recipe():
    assert set(RECIPES) == {name for name, entry in MODELS.items() if not entry.pretrained}


def test_the_recipe_of_edge_is_the_default():
    assert RECIPES["edge"].settings == {}
    assert TrainSettings(dataset="d/224", data_dir="data").model == RECIPES["edge"].model


@pytest.mark.parametrize(
    ("name", "images", "stated"),
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
def test_what_the_articles_stated(name, images, stated):
    assert (RECIPES[name].size, RECIPES[name].channels) == images
    chosen = dataclasses.asdict(settings(name))
    assert {field: chosen[field] for field in stated} == stated
    assert (chosen["learning_rate"], chosen["weight_decay"]) == (1e-3, 0)  # Adam as Keras has it


def test_recipes_load_no_keras():
    code = "import sys, cxr_tfds.training.recipes; print({'keras', 'tensorflow', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
