"""The error a user can mend: one sentence naming the thing and the remedy."""


class UserError(ValueError):
    """Bad input (a file, a value, a name). Command lines print its sentence and exit with status 2."""
