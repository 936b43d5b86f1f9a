"""COVID-19 radiographs of the ieee8023 collection and normals of a Kaggle pneumonia folder."""
