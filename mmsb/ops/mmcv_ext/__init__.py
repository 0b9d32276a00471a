"""The folder that ``mmsb.ops.install`` adds to mmcv's path: each module here is seen in mmcv."""
