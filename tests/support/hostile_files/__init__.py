"""Files of other programs that are no models: a table for each reader, and all in one."""
