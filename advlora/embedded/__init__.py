"""What ships inside the package: a small pretrained CLIP and Fashion-MNIST as WebDataset shards."""
