"""AMR in training loops of other packages."""
