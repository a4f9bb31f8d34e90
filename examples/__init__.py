"""Apps to read and to run; each is run by the tests."""
