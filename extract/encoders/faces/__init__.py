"""Face crops: the largest face of a clip, followed from frame to frame (option `face=`)."""
