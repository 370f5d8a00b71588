"""`torchvision.io`: imported by transformers; nothing of it is used for pictures."""
