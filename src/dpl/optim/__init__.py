"""Gradient descent: optimiser, learning rate, progress and checkpoints of a stage, regularisation, prompt scale."""
