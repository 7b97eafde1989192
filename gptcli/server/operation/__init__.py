"""How the server runs: its socket, its process, who may use it, and what is counted."""
