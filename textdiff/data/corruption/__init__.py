"""Corruptions of clean text for training; one family a file. The objective itself is that of `textdiff.diffusion`."""
