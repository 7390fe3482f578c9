"""`Counts`: how often words or pieces of text occur."""

import pytest

from textdiff.errors import UserError
from textdiff.evidence import Counts


def test_counts() -> None:
    assert Counts(["happy", "glad"])(["happy, unhappy and glad", ""]) == [2.0, 0.0]
    assert Counts(["happy"], pieces=True)(["happy, unhappy"]) == [2.0]
    assert Counts(["happy"], most=1)(["happy happy"]) == [1.0]
    with pytest.raises(UserError, match="nothing to count"):
        Counts([""])
