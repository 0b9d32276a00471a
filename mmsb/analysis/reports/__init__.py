"""Tables and HTML pages of trainings."""
