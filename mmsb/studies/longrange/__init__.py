"""Synthetic tasks that cannot be solved without global context."""
