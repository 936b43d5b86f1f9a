"""What a model is worth: scores, metrics, thresholds, stress."""
