"""Training of a whole encoder with a linear head: fine-tuning, few labels, from scratch."""
