"""Launching: training and testing with any toolbox, on CPU processes, GPUs and clusters."""

from .cli import report_user_errors
from .runner import test, train

__all__ = ['report_user_errors', 'test', 'train']
