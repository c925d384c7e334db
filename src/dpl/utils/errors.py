"""The exception for errors that the user can correct."""


class DplError(ValueError):
    """Bad input or a bad environment. The message is one line, which names the file or value and says what to do.

    The command line prints the message and exits with status 2. Any other exception is a bug in dpl and shows its traceback.
    """
