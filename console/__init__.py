"""Shared parts of commands on the command line: options from dataclasses, tables, errors."""
