"""Characters, scripts and lines: what a terminal and a reader make of a text."""
