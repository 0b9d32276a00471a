"""Pictures of class activation maps, spatial bias maps and effective receptive fields."""
