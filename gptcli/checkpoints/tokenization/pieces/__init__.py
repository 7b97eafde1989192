"""A sentencepiece model without its package: the file, the normalization, the segmentation."""
