"""How the embedded backbone `pictures` is pretrained: corpus, captions, augmentation, training, scores."""
