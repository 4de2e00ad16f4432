"""Heads beside people: votes, tags, and the tables made from them."""
