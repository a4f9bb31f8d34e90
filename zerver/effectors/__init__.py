"""The drivers that perform effects, one for each family: the impure edge. Import the module of the one you need."""

from __future__ import annotations

__all__: list[str] = []
