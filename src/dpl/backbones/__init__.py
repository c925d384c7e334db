"""Frozen CLIP backbones: loading, and the branches that prompts are given to."""
