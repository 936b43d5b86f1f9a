"""Built dataset to run folder."""
