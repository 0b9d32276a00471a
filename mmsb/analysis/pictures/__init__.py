"""Pictures of what a network sees: CAM, spatial bias's maps, receptive fields."""
