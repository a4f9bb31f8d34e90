"""A counter that all processes share, and that survives the death of the one it lives in: `python -m examples.counter`.

`actors` has the counter, `__main__` starts the Node.
"""
