"""What any PyTorch model relies on, measured on batches of its own inputs: `amr.audit`. Read `audit` first."""
