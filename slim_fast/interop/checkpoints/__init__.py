"""Pretrained weights: files, runs, Hugging Face repositories, and what other trainers save."""
