"""A quantized run as others deploy it: one file from the waveform on, a mobile runtime's format, C."""
