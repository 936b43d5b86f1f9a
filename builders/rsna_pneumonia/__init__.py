"""RSNA Pneumonia Detection Challenge 2018: adult chest radiographs with boxes of opacities."""
