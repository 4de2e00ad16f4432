"""What it costs to make a model use its modalities in a requested ratio: `amr frontier`."""
