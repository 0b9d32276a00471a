"""All that differs between mmdet, mmseg and mmpretrain, a file each."""
