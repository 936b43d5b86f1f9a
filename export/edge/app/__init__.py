"""The page of `cxr-app`: predicts radiographs in a browser, without TensorFlow."""
