"""Learning-rate schedules against values worked by hand, clipping and early stopping."""

import math

import pytest

from cxr_tfds.training.optimizers import Rate, make_optimizer, plateau_factor, should_stop
from cxr_tfds.training.settings import TrainSettings


def rates(steps, peak=0.1, **changes):
    settings = TrainSettings(dataset="a/b", data_dir="c", **changes)
    optimizer = make_optimizer(settings, Rate(settings, peak, steps), scaled=False)
    found = []
    for step in range(steps + 1):
        optimizer.iterations.assign(step)
        found.append(float(optimizer.learning_rate))
    return found


def test_cosine_schedule():
    found = rates(100)
    assert found[:6] == pytest.approx([0, 0.02, 0.04, 0.06, 0.08, 0.1])
    for step in (20, 50, 99, 100):
        assert found[step] == pytest.approx(
            0.05 * (1 + math.cos(math.pi * (step - 5) / 95)), abs=1e-6
        )


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_constant_and_plateau_schedules_warm_up_on_request(schedule):
    assert rates(10, schedule=schedule) == pytest.approx([0.1] * 11)
    assert rates(10, schedule=schedule, warm_up=0.2)[:4] == pytest.approx([0, 0.05, 0.1, 0.1])


def test_no_warm_up():
    assert rates(10, warm_up=0.0)[0] == pytest.approx(0.1)


def test_clip_norm_is_divided_among_replicas():
    settings = TrainSettings(dataset="a/b", data_dir="c", clip_norm=1.0)
    optimizer = make_optimizer(settings, Rate(settings, 0.1, 10), scaled=True, replicas=4)
    assert optimizer.inner_optimizer.global_clipnorm == 0.25
    plain = TrainSettings(dataset="a/b", data_dir="c", optimizer="adam")
    assert make_optimizer(plain, Rate(plain, 0.1, 10), scaled=False).global_clipnorm is None


@pytest.mark.parametrize(
    ("losses", "factor"),
    [
        ([], 1),
        ([1.0, 0.9, 0.8], 1),
        ([1.0, 1.0], 1),
        ([1.0, 1.0, 1.0], 0.3),
        ([1.0, 0.99995, 0.9999], 0.3),  # a gain below 1e-4 does not count
        ([1.0, 1.1, 0.9, 1.0], 1),  # an improvement restarts the wait
        ([1.0, 1.0, 1.0, 1.0, 1.0], 0.09),
        ([1.0, *[2.0] * 40], 1e-5),  # the rate never falls below 1e-6
    ],
)
def test_plateau_factor(losses, factor):
    assert plateau_factor(losses, 0.1) == pytest.approx(factor)


def test_plateau_does_not_raise_a_rate_below_the_minimum():
    assert plateau_factor([1.0] * 9, 1e-7) == 1


@pytest.mark.parametrize(
    ("losses", "early_stopping", "stops"),
    [
        ([], 1, False),
        ([1.0, 2.0], 0, False),
        ([1.0, 2.0], 1, True),
        ([1.0, 2.0], 2, False),
        ([1.0, 2.0, 1.0], 2, True),  # an equal loss is no improvement
        ([1.0, 2.0, 0.9], 2, False),
    ],
)
def test_should_stop(losses, early_stopping, stops):
    assert should_stop(losses, early_stopping) is stops
