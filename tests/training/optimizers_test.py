"""The course of the learning rate worked by hand, and when a run is over."""

import math

import pytest

from cxr_tfds.training.optimizers import is_over, make_optimizer, make_rate, plateau_factor
from cxr_tfds.training.settings import TrainSettings


def rates(steps, peak=0.1, **changes):
    settings = TrainSettings(dataset="a/b", data_dir="c", **changes)
    optimizer = make_optimizer(settings, make_rate(settings, peak, steps), scaled=False)
    found = []
    for step in range(steps + 1):
        optimizer.iterations.assign(step)
        found.append(float(optimizer.learning_rate))
    return found


def test_a_cosine_rises_then_falls_to_zero():
    found = rates(100)
    assert found[:6] == pytest.approx([0, 0.02, 0.04, 0.06, 0.08, 0.1])
    for step in (20, 50, 99, 100):
        assert found[step] == pytest.approx(
            0.05 * (1 + math.cos(math.pi * (step - 5) / 95)), abs=1e-6
        )


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_without_a_cosine_the_rate_stays(schedule):
    assert rates(10, schedule=schedule) == pytest.approx([0.1] * 11)
    assert rates(10, schedule=schedule, warm_up=0.2)[:4] == pytest.approx([0, 0.05, 0.1, 0.1])


def test_warm_up_can_be_left_out():
    assert rates(10, warm_up=0.0)[0] == pytest.approx(0.1)


def test_each_device_clips_its_part_of_the_gradient():
    settings = TrainSettings(dataset="a/b", data_dir="c", clip_norm=1.0)
    optimizer = make_optimizer(settings, make_rate(settings, 0.1, 10), scaled=True, replicas=4)
    assert optimizer.inner_optimizer.global_clipnorm == 0.25
    plain = TrainSettings(dataset="a/b", data_dir="c", optimizer="adam")
    assert make_optimizer(plain, make_rate(plain, 0.1, 10), scaled=False).global_clipnorm is None


@pytest.mark.parametrize(
    ("losses", "factor"),
    [
        ([], 1),
        ([1.0, 0.9, 0.8], 1),
        ([1.0, 1.0], 1),
        ([1.0, 1.0, 1.0], 0.3),
        ([1.0, 0.99995, 0.9999], 0.3),  # less than 1e-4 is no gain
        ([1.0, 1.1, 0.9, 1.0], 1),  # the wait begins anew
        ([1.0, 1.0, 1.0, 1.0, 1.0], 0.09),
        ([1.0, *[2.0] * 40], 1e-5),  # of 0.1: not below 1e-6
    ],
)
def test_the_rate_falls_on_a_plateau(losses, factor):
    assert plateau_factor(losses, 0.1) == pytest.approx(factor)


def test_a_rate_below_the_lowest_is_left_alone():
    assert plateau_factor([1.0] * 9, 1e-7) == 1


@pytest.mark.parametrize(
    ("losses", "patience", "over"),
    [
        ([], 1, False),
        ([1.0, 2.0], 0, False),
        ([1.0, 2.0], 1, True),
        ([1.0, 2.0], 2, False),
        ([1.0, 2.0, 1.0], 2, True),  # equal is not lower
        ([1.0, 2.0, 0.9], 2, False),
    ],
)
def test_when_a_run_is_over(losses, patience, over):
    assert is_over(losses, patience) is over
