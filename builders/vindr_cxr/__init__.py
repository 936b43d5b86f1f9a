"""VinDr-CXR: DICOM radiographs with findings and diagnoses of radiologists."""
