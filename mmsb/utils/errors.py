"""The exception that command lines report as one line instead of a traceback."""


class UserError(ValueError):
    """An error that the user can fix; its message says what is wrong and what to do.

    It is a ``ValueError`` so that code that does not know mmsb can catch it, and so that
    mmengine's registries, which re-raise as ``type(error)(message)``, keep its type.

    Attributes:
        exit_code (int): The exit code of a command line. Defaults to 2.
    """

    exit_code = 2


def reason_of(error: BaseException) -> str:
    """Return an error's type and message in one line."""
    text = ' '.join(f'{error}'.split())
    return f'{type(error).__name__}: {text}'[:300].rstrip(': ')
