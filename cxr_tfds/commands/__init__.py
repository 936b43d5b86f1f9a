"""The commands of the workstation. Importing one of them loads no TensorFlow."""
