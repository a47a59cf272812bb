"""Everything that reads files which others may have written."""

from tests.fuzz import clip_targets, model_targets, run_targets
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    **clip_targets.TARGETS,
    **model_targets.TARGETS,
    **run_targets.TARGETS,
}
