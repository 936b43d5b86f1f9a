"""Random changes of training images, computed on the accelerator."""
