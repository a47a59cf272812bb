"""Encoder, heads, losses, and the methods that train an encoder: SLiM, a masked autoencoder."""
