"""Metrics, intervals, thresholds and temperature. NumPy only."""
