"""From results to text: one table, one JSON and one CSV writer for all commands."""
