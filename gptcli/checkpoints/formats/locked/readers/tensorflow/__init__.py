"""TensorFlow's files, read without TensorFlow: the table of a bundle, and its checksums."""
