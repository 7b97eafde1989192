"""Sets of sentence pairs: the public ones in their own formats, the user's, and ours."""
