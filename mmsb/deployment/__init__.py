"""Export to files that run without OpenMMLab. Import the module you need."""
