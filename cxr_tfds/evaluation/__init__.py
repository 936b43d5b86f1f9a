"""Scores of a trained model on a split, and its stress test."""
