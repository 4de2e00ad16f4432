"""The measures of `amr evaluate`: one file per measure."""
