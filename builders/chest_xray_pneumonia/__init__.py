"""Chest X-Ray Images (Pneumonia), Kermany et al. 2018, as sold on Kaggle by paultimothymooney."""
