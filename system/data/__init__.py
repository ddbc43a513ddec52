"""Recordings and their folds; each data set is one module, found by name in DATASETS."""

from system.data import csv_folder, made, tau

__all__ = ["csv_folder", "made", "tau"]
