"""Decoding of image files to grey values. Builders and the device share this code."""
