"""What fuses across ops on a CPU: attention in training, and whole blocks for inference."""
