"""From run folders to a package: what goes in, in the order in which it is gathered."""
