"""How much of a decision each modality carries, and the regularizer (paper, sections 3 and 4)."""
