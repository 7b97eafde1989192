"""What a user gives to be read: the prompt, and lines of inputs."""
