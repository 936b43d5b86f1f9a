"""Drawn chest radiographs, and a dataset of them."""
