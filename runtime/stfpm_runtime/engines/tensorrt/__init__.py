"""TensorRT plans: what they say of themselves, how they are built, and how they run."""
