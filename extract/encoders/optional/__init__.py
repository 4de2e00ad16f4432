"""Optional packages: their import, and exported networks, which onnxruntime runs."""
