"""Frozen CLIP backbones: loading, and the image and text branches for prompts."""
