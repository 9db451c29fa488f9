"""What diffusers' example needs of torchvision, for machines without it."""
