"""Encoders and head of a model that is one `forward()`: the outputs of named modules, and the model with others."""
