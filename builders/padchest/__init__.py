"""PadChest: radiographs with labels from Spanish reports."""
