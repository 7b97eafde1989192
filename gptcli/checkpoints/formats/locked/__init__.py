"""What runs in the process without rights: the readers of other programs' files, and the writer."""
