"""More to draw than `things`, for the data sets whose classes are not COCO's."""
