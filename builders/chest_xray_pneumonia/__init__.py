"""Chest X-Ray Images (Pneumonia), Kermany et al. 2018, from Kaggle (paultimothymooney)."""
