"""Results on file: written, compared, and shown as tables and charts."""
