"""The errors that a person sees. Everything else is a bug and shows its traceback."""


class SwarmError(Exception):
    """One clear sentence: what is wrong, where, and how to mend it. Ends the command with exit status 2."""
