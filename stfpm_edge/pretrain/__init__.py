"""Pre-training of a teacher where no ImageNet weights are available."""
