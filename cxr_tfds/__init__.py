"""From a folder of chest radiographs to a classifier on a small device.

Importing the package loads neither TensorFlow nor Keras: the device imports it too.
"""

__version__ = "0.1.0"
