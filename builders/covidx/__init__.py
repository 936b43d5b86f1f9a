"""COVIDx CXR: radiographs with and without COVID-19, collected from several datasets."""
