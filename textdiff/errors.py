"""The exceptions for mistakes that a user can correct."""


class UserError(ValueError):
    """A mistake in what a user gave (text, path, option): the message says what it was, what was expected and the fix.

    The command line prints the message as one line and exits with status 2; Python code may catch a `ValueError`.
    """


class Impossible(UserError):
    """No text agrees with the evidence: its probability is 0."""


def reason(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(":. ")
