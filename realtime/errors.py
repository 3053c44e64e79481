"""The one exception that reaches people as a sentence instead of a traceback."""


class UserError(Exception):
    """Something the person at the keyboard can put right.

    The message is one sentence that says what is wrong and what to do. The command line prints it to
    standard error and exits with status 2.
    """
