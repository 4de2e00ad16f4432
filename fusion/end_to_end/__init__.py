"""Train encoders on media, with the trainer and the methods of the heads."""
