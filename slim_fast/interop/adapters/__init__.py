"""What the adapters to other code bases, `slim_fast.interop.<code base>`, share."""
