"""How training treats the modalities: one file a method."""
