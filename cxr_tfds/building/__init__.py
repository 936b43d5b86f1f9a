"""Source files to checked TFRecords: the base of every dataset builder."""
