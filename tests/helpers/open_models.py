"""Predicts an image with each model of a folder: `open_models.py FOLDER IMAGE RUNTIME`.

Prints a line for each: its name and "prediction" with the probability, or "error". A script,
because a model may crash an interpreter.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cxr_tfds.errors import InputError
from cxr_tfds.export.edge.classifier import Classifier


def main(folder: str, image: str, runtime: str) -> None:
    content = Path(image).read_bytes()
    for path in sorted(Path(folder).iterdir()):
        print(path.name, end=" ", flush=True)  # noqa: T201
        try:
            prediction = Classifier(path, runtime)(content)
            assert 0 <= prediction.probability <= 1, prediction
            assert prediction.label, prediction
            print(f"prediction {prediction.probability!r}", flush=True)  # noqa: T201
        except InputError as err:
            names_file = str(err).startswith(str(path))
            print("error" if names_file else f"without-its-name: {err}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
