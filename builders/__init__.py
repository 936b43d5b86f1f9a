"""Imports every builder, so that `tfds build NAME --imports cxr_tfds.builders` finds it."""

from cxr_tfds.builders.chest_xray_pneumonia import chest_xray_pneumonia_dataset_builder
from cxr_tfds.builders.chexpert_small import chexpert_small_dataset_builder
from cxr_tfds.builders.covid19_radiography import covid19_radiography_dataset_builder
from cxr_tfds.builders.covid_chestxray import covid_chestxray_dataset_builder
from cxr_tfds.builders.covid_ct import covid_ct_dataset_builder
from cxr_tfds.builders.covidx import covidx_dataset_builder
from cxr_tfds.builders.medmnist_pneumonia import medmnist_pneumonia_dataset_builder
from cxr_tfds.builders.nih_chest_xray14 import nih_chest_xray14_dataset_builder
from cxr_tfds.builders.padchest import padchest_dataset_builder
from cxr_tfds.builders.pneumonia_xray_images import pneumonia_xray_images_dataset_builder
from cxr_tfds.builders.rsna_pneumonia import rsna_pneumonia_dataset_builder
from cxr_tfds.builders.tb_chest_xray import tb_chest_xray_dataset_builder
from cxr_tfds.builders.vindr_cxr import vindr_cxr_dataset_builder
from cxr_tfds.builders.xray_folder import xray_folder_dataset_builder
from cxr_tfds.builders.xray_table import xray_table_dataset_builder

__all__ = [
    "chest_xray_pneumonia_dataset_builder",
    "chexpert_small_dataset_builder",
    "covid19_radiography_dataset_builder",
    "covid_chestxray_dataset_builder",
    "covid_ct_dataset_builder",
    "covidx_dataset_builder",
    "medmnist_pneumonia_dataset_builder",
    "nih_chest_xray14_dataset_builder",
    "padchest_dataset_builder",
    "pneumonia_xray_images_dataset_builder",
    "rsna_pneumonia_dataset_builder",
    "tb_chest_xray_dataset_builder",
    "vindr_cxr_dataset_builder",
    "xray_folder_dataset_builder",
    "xray_table_dataset_builder",
]
