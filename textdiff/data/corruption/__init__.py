"""Corruptions of clean text for training; one family a file."""
