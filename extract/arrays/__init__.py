"""Arrays from files of embeddings and labels, given as `FILE[:KEY[+KEY...]][:N]`; one module per family of files."""

from amr.extract.arrays.read import read_array, read_rows
from amr.extract.arrays.rows import ArraySpec, Expected, Rows, parse_array_spec

__all__ = ["ArraySpec", "Expected", "Rows", "parse_array_spec", "read_array", "read_rows"]
