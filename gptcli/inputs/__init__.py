"""What a user gives to be read: the prompt, lines of inputs, and tables."""
