"""The one exception that is meant for people."""


class DplError(Exception):
    """Bad input or a bad environment, told in one line: it names the file or value and says what to do.

    The command line prints the message and exits with status 2; any other exception is a bug of ours and shows its traceback.
    """
