"""Each test here has a tiny study of its own."""

from study_fixtures import project, study

__all__ = ["project", "study"]
