"""OpenAI's routes: completions and chat, from the body of a request to the answer."""
