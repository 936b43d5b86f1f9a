"""The commands of the workstation: cxr-data, cxr-train, cxr-evaluate. Importing one loads no TensorFlow."""
