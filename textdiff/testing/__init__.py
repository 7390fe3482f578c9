"""Laws as functions: run them on a policy, prior, evidence or inference method of your own, in any test runner.

Each check enumerates a small case exactly, raises `AssertionError` with the figures where a law is broken, and returns
what it measured. Our own tests call them.
"""

from textdiff.testing.enumeration import enumerate_fills, frequencies, iid_noise, total_variation
from textdiff.testing.evidence import check_evidence
from textdiff.testing.methods import check_method
from textdiff.testing.policies import check_policy
from textdiff.testing.priors import check_prior
from textdiff.testing.tables import TableDenoiser, TableOracle

__all__ = [
    "TableDenoiser",
    "TableOracle",
    "check_evidence",
    "check_method",
    "check_policy",
    "check_prior",
    "enumerate_fills",
    "frequencies",
    "iid_noise",
    "total_variation",
]
