"""Analysis of models and trainings. Import modules one by one: their dependencies differ."""
