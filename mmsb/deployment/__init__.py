"""Leaving the framework: files that run without it. Import the module you need."""
