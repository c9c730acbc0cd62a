"""A round in a file: written from a home, checked by anybody."""
