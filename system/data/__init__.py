"""Recordings and their folds; each data set is one module, found by name in DATASETS."""
