"""Workers decode, the device encodes, a thread writes."""
