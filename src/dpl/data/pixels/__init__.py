"""Images as pixels: decoding, resampling, transforms, batches."""
