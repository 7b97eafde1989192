"""Files of any kind become documents, part by part."""
