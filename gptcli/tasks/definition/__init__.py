"""A task's file: its layout, options and templates, and where files are found."""
