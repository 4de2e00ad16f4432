"""What commands have in common on the command line: options from dataclasses, tables, refusals."""
