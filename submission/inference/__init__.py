"""Packages that organisers install and run: the INT8 network as a PyTorch module, and the code around it.

`files/` is copied into packages as it is, `integer_model.py` with `quant/integer.py` beside it.
"""
