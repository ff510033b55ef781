"""Discrete-choice models of animal movement over H3 cells."""

__version__ = "0.1.0"
