"""Any folder of radiographs with one folder per class."""
