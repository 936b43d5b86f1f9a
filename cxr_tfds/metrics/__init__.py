"""Metrics, intervals, thresholds and temperature scaling. NumPy only."""
