"""A checkout that asks four other services, and what it does when one of them is slow, fails or hangs: README.md."""
