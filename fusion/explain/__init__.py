"""One clip, one picture: `amr explain`."""
