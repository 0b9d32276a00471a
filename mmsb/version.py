"""The version, alone in a file so that building reads it without torch."""

__version__ = '0.2.0'
