"""TinyScene: sound classifiers inside a parameter and MAC budget, from wav to a challenge package."""

__version__ = "0.1.0"
