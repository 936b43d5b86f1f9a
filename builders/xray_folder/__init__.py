"""Anyone's folder of radiographs, one folder a class."""
