"""Faults that the campaign has found, each as a test of its own."""

import pytest

from textdiff.cli.trainer_options import check_trainer_options
from textdiff.errors import UserError


@pytest.mark.parametrize("value", [2**63, [1], "x", None])
def test_trainer_options_are_options(value: object) -> None:
    with pytest.raises(UserError, match=r"trainer is .*, expected its options by name"):
        check_trainer_options("fit", value)  # type: ignore[arg-type]
