"""The encoder for other code bases."""
