"""Files: written whole or not at all, probed before the work, checked by checksums, and read within bounds."""

from textdiff.files.atomic import atomically, finish, tidy, whole_folder, write_text
from textdiff.files.checksums import CHECKSUMS, check_checksums, replaced, write_checksums
from textdiff.files.probe import as_path, probe_file, probe_folder
from textdiff.files.read import check_plain, read_json

__all__ = [
    "CHECKSUMS",
    "as_path",
    "atomically",
    "check_checksums",
    "check_plain",
    "finish",
    "probe_file",
    "probe_folder",
    "read_json",
    "replaced",
    "tidy",
    "whole_folder",
    "write_checksums",
    "write_text",
]
