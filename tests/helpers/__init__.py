"""What several test folders share; not part of the wheel."""
