"""Masks, augmentations and views: what a training step shows the student and the teacher."""
