"""Parts of an import: rows of every file joined by id or by row, embeddings as numbers, the table of clips."""
