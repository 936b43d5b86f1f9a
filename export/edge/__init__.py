"""Runs exported models on the device, without TensorFlow."""
