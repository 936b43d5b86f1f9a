"""Any folder of radiographs with a table of labels."""
