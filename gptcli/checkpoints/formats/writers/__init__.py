"""Our checkpoints written for other programs: llama.cpp and CTranslate2."""
