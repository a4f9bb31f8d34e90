"""A todo list over SQLite."""
