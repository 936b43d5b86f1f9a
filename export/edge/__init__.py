"""What a device runs: NumPy, Pillow, click and one interpreter; nothing of TensorFlow."""
