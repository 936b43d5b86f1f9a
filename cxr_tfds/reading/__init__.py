"""Built datasets to batches; importing this loads no TensorFlow."""

CACHES = (
    "auto",
    "ram",
    "file",
    "none",
)  # where a split is read from, see `cxr_tfds.reading.pipeline.train_batches`
