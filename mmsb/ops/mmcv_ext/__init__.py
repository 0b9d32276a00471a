"""Folder that ``mmsb.ops.install`` adds to mmcv's path: its modules import as ``mmcv.NAME``."""
