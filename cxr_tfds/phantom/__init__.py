"""Draws chest radiographs and datasets of them."""
