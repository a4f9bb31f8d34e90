"""The smallest app."""
