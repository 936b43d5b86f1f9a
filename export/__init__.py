"""From a run folder to a `.tflite` that was checked. Importing the package loads no TensorFlow."""
