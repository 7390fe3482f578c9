"""The one exception for a mistake that a user can mend."""


class UserError(ValueError):
    """A mistake at the border (text, path, option): its message says what came, what was expected and the fix.

    The command line prints the message as one line and exits with status 2; Python code may catch a `ValueError`.
    """


class Impossible(UserError):
    """No text agrees with the evidence."""
