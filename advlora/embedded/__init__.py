"""What ships inside the package: a small pretrained CLIP, Fashion-MNIST and emoji as WebDataset shards."""
