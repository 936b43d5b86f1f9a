"""NIH ChestX-ray14: frontal radiographs with 14 findings mined from reports."""
