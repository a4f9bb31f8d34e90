"""The drivers that perform effects, one for each family: the impure edge. Import the module of the one you need."""
