"""For all tests. How many examples properties try: few by default; ``HYPOTHESIS_PROFILE=soak`` for a long look."""

from __future__ import annotations

import gc
import os

from hypothesis import settings

settings.register_profile("default", max_examples=20, deadline=None)
settings.register_profile("soak", max_examples=3000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_collection_finish() -> None:
    """What is there by now stays for good: tests that collect garbage need not look through it each time."""
    gc.collect()
    gc.freeze()
