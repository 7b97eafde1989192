"""The page at `/`: a text that the model continues."""
