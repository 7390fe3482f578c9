"""Files that are either whole or not there."""

from textdiff.files import atomically

__all__ = ["atomically"]
