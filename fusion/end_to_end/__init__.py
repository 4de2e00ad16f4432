"""Train encoders on media, with the trainer and methods of heads."""
