"""Inference package for DCASE 2025 Task 1: one module per submitted system."""
