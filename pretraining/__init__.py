"""How the embedded backbone `tiny` was made: a CLIP trained from scratch on rendered image-caption pairs."""
