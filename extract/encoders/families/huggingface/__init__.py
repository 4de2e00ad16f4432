"""`hf:<model or folder>`: models of transformers for pictures, video, sound and text, one file per kind."""
