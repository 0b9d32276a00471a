"""Counting and showing what was trained. Import the module you need; each has its own needs."""
