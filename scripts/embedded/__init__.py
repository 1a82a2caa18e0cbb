"""Makes the data and the pretrained model that ship inside the package (`make pretrain-embedded`)."""
