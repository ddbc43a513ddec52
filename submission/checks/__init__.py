"""What is wrong with a package: one module per kind of file."""
