"""The content of the JSON files that cxr-tfds reads, as its commands write it."""

from __future__ import annotations

import copy
from typing import Any

_METRIC = {"value": 0.9, "low": 0.8, "high": 1.0}
_UNDEFINED = {"value": None, "low": None, "high": None, "undefined": "no image is labelled B"}
_RATES = {"auc": 0.9, "accuracy": 0.8, "sensitivity": 0.7, "specificity": 1.0}
_OF_TWO = (
    "auc", "average_precision", "accuracy", "balanced_accuracy", "sensitivity", "specificity",
    "ppv", "npv", "f1", "brier", "ece",
)  # fmt: skip
_ORIGIN = {"description": "Drawn.", "licence": "MIT", "population": "nobody", "drawn": True}
_SHA256 = "3f" * 32

METRICS: dict[str, Any] = {
    **{name: dict(_METRIC) for name in _OF_TWO},
    "ppv": _UNDEFINED,
    "rule": {"class": "B", "threshold": 0.5},
    "classes": {"B": {"precision": _METRIC, "recall": _METRIC, "f1": _METRIC, "support": 3}},
    "averages": {"macro": {"precision": _METRIC, "recall": _METRIC, "f1": _METRIC}},
    "findings": {"virus": {"sensitivity": _METRIC, "images": 3}},
    "confusion_matrix": {"tn": 1, "fp": 0, "fn": 2, "tp": 3},
    "threshold": 0.5,
    "images": 6,
}
RUN_CONFIG: dict[str, Any] = {
    "settings": {},
    "dataset": {"name": "chest/64:1.0.0", "fingerprint": _SHA256, "origin": _ORIGIN},
    "labels": ["A", "B"],
    "shape": [64, 64, 1],
    "fit": "stretch",
    "precision": "float32",
    "environment": {"python": "3.11.7"},
    "task": "binary",
    "temperature": 1.5,
    "threshold": 0.25,
    "not_fitted": [],
    "grey_levels": {"bits": None, "window": [40, 80], "percentile": None, "grey_range": None},
    "format": 2,
}
STRESS: dict[str, Any] = {
    "images": 6,
    "split_images": 6,
    "clean": _RATES,
    "rows": [
        {
            "condition": "blur", "strength": "moderate", "amount": 1.5, "written": "1.5 pixels",
            **_RATES, "drop": _METRIC, "findings": {"B": _RATES},
        }
    ],
    "moderate": {"auc": 0.8, "difference": -0.1},
    "verdict": "The model relies most on sharpness.",
}  # fmt: skip
PROFILE: dict[str, Any] = {
    "seconds": {
        "start": 8.0, "first step": 2.0, "reading": 41.0, "augmentation": 9.0, "step": 45.0,
        "validation": 4.0, "checkpoints": 1.0, "results": 9.0, "profile": 1.0,
    },
    "steps": 300,
    "augmentation_ms": 30.0,
    "batches_ready": 0.25,
    "cores": 2,
    "processor": 0.5,
    "gpus": ["NVIDIA H100"],
    "gpu": 0.55,
    "gpu_bytes": 3 * 2**30,
    "bottleneck": "Reading: the step waits 41 % of an epoch for images. Try a faster disk, "
    "or a dataset that is built at one size.",
}  # fmt: skip
BUILD_REPORT: dict[str, Any] = {
    "dataset": "chest/64:1.0.0",
    "settings": {},
    "splits": {
        "train": {
            "images": 6, "classes": {"A": 3, "B": 3}, "findings": {"virus": 1}, "patients": 5,
            "images_without_patient": 0,
        }
    },
    "duplicates": {
        "groups": 1, "images": 2, "within_split": 0, "across_splits": [["a.png", "b.png"]],
        "across_classes": [],
    },
    "patients": {"in_two_splits": {"p": ["train", "test"]}, "in_two_splits_of_the_source": {}},
    "near_duplicates": [["a.png", "b.png"]],
    "pixels": {"train": {"A": {"mean": 120.5}}},
    "shortcuts": [{"property": "width", "class": "B", "auc": 0.9, "text": "width"}],
    "bad_images": {"c.png": "empty file"},
    "max_examples_per_split": None,
    "notes": ["a note"],
}  # fmt: skip
EXPORT: dict[str, Any] = {
    "files": [
        {
            "path": "run-int8.tflite", "quantization": "int8", "size_bytes": 1000,
            "temperature": 1.5, "threshold": 0.5,
            "comparisons": {
                "test": {
                    "images": 6, "agreement": 1.0, "auc_keras": 0.9, "auc": 0.9,
                    "accuracy_keras": 0.8, "accuracy": 0.8, "max_difference": 0.01,
                    "mean_difference": 0.001, "agreement_low": 0.9, "agreement_high": 1.0,
                    "findings": {},
                }
            },
            "ran": [
                {
                    "runtime": "litert", "version": "2.3.0", "latency_ms": 0.7, "peak_mb": 57.0,
                    "images": 6, "agreement": 1.0,
                }
            ],
            "refused": {"tflite-runtime": "ADD version 9"},
            "warnings": ["few images"],
        }
    ],
    "fastest": {"litert": "run-int8.tflite"},
    "smallest": "run-int8.tflite",
}  # fmt: skip
MODEL_INFO: dict[str, Any] = {
    "labels": ["A", "B"],
    "size": 64,
    "channels": 1,
    "fit": "stretch",
    "threshold": 0.5,
    "temperature": 1.5,
    "quantization": "int8",
    "runtimes": ["litert"],
    "heatmap": True,
    "grid": [7, 7],
    "input": "grey",
    "dataset": {"name": "chest/64:1.0.0", "fingerprint": _SHA256, "origin": _ORIGIN},
    "run": {
        "name": "first", "model": "edge", "environment": {"keras": "3.15.1"},
        "threshold_rule": "youden", "float_layers": ["conv"],
    },
    "metrics": {"test": {"auc": 0.9, "accuracy": 0.8}},
    "reliability": {"B": {"images": [1, 2], "positives": [0, 2]}},
    "operating_points": {
        "B": [
            {
                "rule": "youden", "threshold": 0.5, "sensitivity": 0.9, "specificity": 0.8,
                "positives": 3, "negatives": 3,
            }
        ]
    },
    "shift": 0.0,
    "grey_levels": {"bits": 12, "window": None, "percentile": None, "grey_range": None},
    "several_findings": False,
    "unknown": "ignore",
    "format": "cxr-tfds-1",
}  # fmt: skip
DATASET_INFO: dict[str, Any] = {
    "name": "chest",
    "fileFormat": "tfrecord",
    "moduleName": "cxr_tfds.builders.chest.chest_dataset_builder",
    "description": "Drawn.",
    "splits": [
        {
            "name": "train", "numBytes": "1000", "shardLengths": ["3", "3"],
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        }
    ],
}  # fmt: skip
_FEATURES = "tensorflow_datasets.core.features."
_SCALAR = {
    "pythonClassName": f"{_FEATURES}scalar.Scalar",
    "tensor": {"dtype": "int32", "encoding": "none", "shape": {}},
}
_WORDS = {"pythonClassName": f"{_FEATURES}text_feature.Text", "text": {}}
_LABEL = {
    "pythonClassName": f"{_FEATURES}class_label_feature.ClassLabel",
    "classLabel": {"numClasses": "2"},
}
FEATURES: dict[str, Any] = {
    "pythonClassName": f"{_FEATURES}features_dict.FeaturesDict",
    "featuresDict": {
        "features": {
            "image": {
                "pythonClassName": f"{_FEATURES}tensor_feature.Tensor",
                "tensor": {
                    "dtype": "uint8",
                    "encoding": "bytes",
                    "shape": {"dimensions": ["64", "64", "1"]},
                },
            },
            "label": _LABEL,
            "finding": _LABEL,
            "image_id": _WORDS,
            "patient_id": _WORDS,
            "height": _SCALAR,
            "width": _SCALAR,
        }
    },
}
METADATA: dict[str, Any] = {
    "size": 64,
    "channels": 1,
    "fit": "stretch",
    "split": "patient",
    "bits": None,
    "window": [40, 80],
    "percentile": None,
    "grey_range": None,
    "origin": _ORIGIN,
    "reader": {},
    "source": {"images": 6, "splits": {"train": {"A": 3, "B": 3}}, "digest": _SHA256},
    "several_findings": False,
    "conflicting_images": 0,
    "bad_images": 0,
    "max_examples_per_split": None,
    "fingerprint": _SHA256,
    "fingerprint_version": 2,
}
CLUSTER: dict[str, Any] = {
    "cluster": {"chief": ["a:1"], "worker": ["b:2", "c:3"]},
    "task": {"type": "worker", "index": 0},
}


def model_config(*layers: dict[str, Any]) -> dict[str, Any]:
    """Returns the config of a `.keras` file with more layers than an input."""
    first = {"module": "keras.layers", "class_name": "InputLayer", "registered_name": None}
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "tiny", "layers": [first, *copy.deepcopy(layers)]},
        "registered_name": None,
    }
