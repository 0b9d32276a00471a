"""Further figures besides `things`, for datasets with other classes than COCO."""
