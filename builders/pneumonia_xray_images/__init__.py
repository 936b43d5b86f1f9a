"""Pneumonia X-Ray Images (pcbreviglieri, Kaggle): Kermany et al. 2018 with another split."""
