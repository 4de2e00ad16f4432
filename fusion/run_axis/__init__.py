"""Many runs in one tensor: every tensor has a leading run axis. Skip this folder on first reading."""
