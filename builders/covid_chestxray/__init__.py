"""COVID-19 radiographs of the ieee8023 collection against normals of a Kaggle pneumonia folder."""
