"""A quantized run as C: export.py puts the file together, network.py walks the steps, check.py compiles and tries."""
