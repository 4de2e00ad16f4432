"""From a cache to clips that are ready for training."""
