"""Engines: what drives the interpreter. The same app gets the same answers from each."""
