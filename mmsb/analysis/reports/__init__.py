"""Tables and HTML pages about trainings."""
