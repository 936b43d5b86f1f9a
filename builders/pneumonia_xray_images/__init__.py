"""Pneumonia X-Ray Images: the radiographs of Kermany et al. 2018 with another split, by pcbreviglieri on Kaggle."""
