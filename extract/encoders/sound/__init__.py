"""Sound for encoders: windows, pictures, speech models."""
