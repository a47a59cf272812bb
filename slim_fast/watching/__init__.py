"""Classes of people in videos and pose files, while these are read."""
