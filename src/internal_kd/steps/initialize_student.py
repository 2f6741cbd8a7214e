"""Build a student before its training: embeddings, some of the source's layers, pooler and head where there are any."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from internal_kd.artefacts import InitialStudent
from internal_kd.files import describe_files, publish_folder, read_json, staging_folder, write_json
from internal_kd.identity import plain

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Raised when the same parameters and inputs give another result.
RECIPE = 1


def initialize_student(initial: InitialStudent) -> None:
    """Write ``work/initial/...``: from the pre-trained encoder without a head, from a teacher with its head.

    A head that the source lacks is drawn later, from the seed of each run.

    Raises:
        UserError: the source's weights are missing, the depth does not suit it, or the disk is full.
    """
    from internal_kd.models.classifiers import load_classifier, save_classifier
    from internal_kd.models.students import initialize_student as build

    layers = "random" if initial.initialization.source == "random" else initial.initialization.layers
    if initial.teacher is not None:
        classes = read_json(initial.teacher.tokens.data.marker)["classes"]
        student = build(load_classifier(initial.teacher.folder / "model", classes), initial.depth, layers)
    else:
        source = load_classifier(initial.encoder.folder, 2, new_head=True)
        # The head on this classifier is a placeholder: every task and seed draws its own.
        student = cast("PreTrainedModel", build(source, initial.depth, layers, seed=initial.seed or 0).base_model)
    with staging_folder(initial.folder) as staged:
        save_classifier(student, staged / "model")
        names = [str(path.relative_to(staged)) for path in (staged / "model").rglob("*") if path.is_file()]
        record = {
            "fingerprint": initial.fingerprint,
            "recipe": initial.recipe,
            "params": plain(initial.params()),
            "inputs": initial.inputs(),
            "files": describe_files(staged, names),
        }
        write_json(staged / initial.marker.name, record)
        publish_folder(staged, initial.folder, initial.marker.name)
