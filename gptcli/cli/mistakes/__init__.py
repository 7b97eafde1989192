"""What a mistyped command line means, and a command line that works; see `explain.explained`."""
