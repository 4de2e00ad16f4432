"""Other models that a run is compared with, trained or found where they are."""
