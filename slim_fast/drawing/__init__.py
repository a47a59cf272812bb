"""Pictures of clips, views, training curves and features; imports matplotlib when drawing."""

from slim_fast.drawing.curves import PANELS, Panel, draw_curves, draw_knn
from slim_fast.drawing.embedding import draw_embedding
from slim_fast.drawing.poses import contact_sheet, draw_views

__all__ = [
    "PANELS",
    "Panel",
    "contact_sheet",
    "draw_curves",
    "draw_embedding",
    "draw_knn",
    "draw_views",
]
