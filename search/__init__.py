"""Optuna search over network specs under a budget; width is solved, never guessed."""
