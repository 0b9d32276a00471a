"""What goes to a run's log file alone: too long for the terminal."""

import logging

from mmengine.logging import MMLogger


def log_to_file(message: str, level: int = logging.DEBUG, exc_info=None) -> None:
    """Writes to the current logger's files, whatever their level, and not to the terminal.

    Args:
        message: The message.
        level: Its level. Defaults to DEBUG.
        exc_info: ``sys.exc_info()``, for a traceback. Defaults to None.
    """
    logger = MMLogger.get_current_instance()
    record = logger.makeRecord(logger.name, level, __file__, 0, message, (), exc_info)
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
