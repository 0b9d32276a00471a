"""Messages for a run's log file only, as they are too long for the terminal."""

import logging

from mmengine.logging import MMLogger


def log_to_file(message: str, level: int = logging.DEBUG, exc_info=None) -> None:
    """Write to the current logger's files, whatever their level, but not to the terminal.

    Args:
        message: The message.
        level: The logging level. Defaults to DEBUG.
        exc_info: ``sys.exc_info()``, to log a traceback. Defaults to None.
    """
    logger = MMLogger.get_current_instance()
    record = logger.makeRecord(logger.name, level, __file__, 0, message, (), exc_info)
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
