"""CheXpert-v1.0-small: radiographs with 14 observations, some of them uncertain."""
