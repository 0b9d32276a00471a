"""The one exception that the command lines show as a line instead of a traceback."""


class UserError(ValueError):
    """Something the user can set right: its message says what was wrong and what to do.

    A ``ValueError``, so that code which knows nothing of mmsb can catch it, and so that
    mmengine's registries, which re-raise as ``type(error)(message)``, keep its type.

    Attributes:
        exit_code (int): What a command line exits with. Defaults to 2.
    """

    exit_code = 2
