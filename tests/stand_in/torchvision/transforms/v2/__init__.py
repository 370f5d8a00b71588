"""`torchvision.transforms.v2`: its functions are in `functional`."""
