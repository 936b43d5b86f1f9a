"""Changing training images, on the accelerator."""
