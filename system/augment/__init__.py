"""Augmentation of training batches. `table.py` lists every one; two files hold them, by what they change."""
