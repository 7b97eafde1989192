"""The rows of a batch: from files in any format, one at a time."""
