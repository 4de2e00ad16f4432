"""What it costs to make a model use its modalities as asked: `amr frontier`."""
