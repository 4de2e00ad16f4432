"""From a cache to clips that are ready to train on."""
