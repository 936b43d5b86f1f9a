"""Imports every builder, so that `tfds build NAME --imports cxr_tfds.builders` finds it."""

from cxr_tfds.builders.chest_xray_pneumonia import chest_xray_pneumonia_dataset_builder

__all__ = ["chest_xray_pneumonia_dataset_builder"]
