"""`profile.json`: its text for a terminal and the sentence about the bottleneck."""

import re

import pytest
from helpers.json_files import PROFILE

from cxr_tfds.errors import InputError
from cxr_tfds.files import write_json
from cxr_tfds.run_profile import OF_AN_EPOCH, find_bottleneck, format_profile, read_profile


@pytest.mark.parametrize(
    ("seconds", "has_gpu", "sentence"),
    [
        ((41, 9, 45, 4, 1), False, "Reading: the step waits 41 % of an epoch for images."),
        ((19, 0, 81, 0, 0), False, "The step itself takes 81 % of an epoch. Try a smaller"),
        ((0, 0, 8, 0, 0), True, "The step itself takes 100 % of an epoch."),
        ((5, 25, 65, 5, 0), True, "Augmentation takes 25 % of an epoch. Try --augment classic"),
        ((25, 0, 40, 35, 0), True, "Validation takes 35 % of an epoch."),
        ((0, 0, 30, 30, 40), True, "Checkpoints take 40 % of an epoch."),
        ((0, 0, 0, 0, 0), False, "No step was trained."),
    ],
)
def test_names_the_bottleneck_of_an_epoch(seconds, has_gpu, sentence):
    found = find_bottleneck(dict(zip(OF_AN_EPOCH, seconds, strict=True)), has_gpu=has_gpu)
    assert found.startswith(sentence)
    assert ("or a GPU" in found) == (not has_gpu and ("itself" in found or "Augm" in found))


def test_text_of_a_profile():
    *stages, load, bottleneck = format_profile(PROFILE).splitlines()
    assert [line.split("  ")[0] for line in stages] == list(PROFILE["seconds"])
    assert stages[2] == "reading       41.0 s  34.2 %  waiting for batches"
    assert load == (
        "A step waited 136.7 ms for its batch on average; 25 % of the steps found it ready. "
        "The steps used 50 % of 2 cores. "
        "NVIDIA H100: busy 55 % of the time, at most 3.0 GiB of memory."
    )
    assert bottleneck == PROFILE["bottleneck"]


def test_text_of_a_profile_without_steps_and_without_a_gpu():
    table = PROFILE | {"batches_ready": None, "processor": None, "gpus": [], "gpu": None}
    assert format_profile(table).splitlines()[-2] == "No GPU."
    unknown = format_profile(PROFILE | {"gpu": None})
    assert "NVIDIA H100: busy an unknown part (install nvidia-ml-py) of the time" in unknown


def test_reads_a_complete_profile(tmp_path):
    assert read_profile(tmp_path) is None
    write_json(tmp_path / "profile.json", PROFILE)
    assert read_profile(tmp_path) == PROFILE
    write_json(tmp_path / "profile.json", PROFILE | {"seconds": {"start": 1.0}})
    message = f"{tmp_path / 'profile.json'} is corrupt: expected the seconds of start, first step,"
    with pytest.raises(InputError, match=re.escape(message)):
        read_profile(tmp_path)
