"""What the project is measured against: the same recipe, written the plain way."""
