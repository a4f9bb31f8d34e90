"""Benchmarks: ``python -m bench`` lists them, ``python -m bench NAME`` runs one. Each is a module that holds
both sides.
"""

__all__: list[str] = []
