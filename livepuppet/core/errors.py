"""The exceptions that livepuppet raises on purpose."""


class LivePuppetError(Exception):
    """Base class: something that the caller can put right.

    The message is one sentence that says what is wrong and what to do. The command line prints it
    to standard error and exits with status 2.
    """


class UserError(LivePuppetError):
    """Bad input, or a device or file that cannot be used."""
