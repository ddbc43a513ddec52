"""Challenge packages: written, reopened and validated."""
