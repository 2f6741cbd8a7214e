import pytest

from internal_kd.errors import UserError
from internal_kd.operations.catalogue import Catalogue, inputs_of, lack_of
from internal_kd.study import Study
from tiny_study import complete


def test_every_artefact_is_found_again_by_the_options_that_name_it(study: Study) -> None:
    catalogue = Catalogue(study)
    run = study.students[-1]
    assert run.outputs
    made = {
        "fetch-task": catalogue.data("judge"),
        "fetch-encoder": catalogue.encoder(),
        "tokenize-task": catalogue.tokens("judge"),
        "train-teacher": catalogue.teacher("judge", 2),
        "record-teacher": catalogue.outputs("judge"),
        "initialize-student": catalogue.student("judge", 2, "soft", 1).initial,
        "train-student": catalogue.student("judge", 2, "stacked", 2, "full"),
    }
    assert made["train-student"] is run
    for verb, artefact in made.items():
        assert catalogue.command(artefact).startswith(f"internal-kd {verb}")
        assert artefact.fingerprint in catalogue.by_fingerprint
    assert catalogue.command(run) == (
        "internal-kd train-student --task judge --depth 2 --method stacked --examples full --seed 2"
    )


def test_everything_a_run_was_fingerprinted_with_is_among_its_inputs(study: Study) -> None:
    for artefact in Catalogue(study).by_fingerprint.values():
        given = {needed.fingerprint for needed in inputs_of(artefact)}
        assert set(artefact.inputs().values()) <= given


@pytest.mark.parametrize(
    ("coordinates", "said"),
    [
        (("jugde", 2, "soft", 1), "unknown task 'jugde' (did you mean 'judge'?); the study wants: judge"),
        (("judge", 3, "soft", 1), "unknown depth '3'"),
        (("judge", 2, "sotf", 1), "unknown method 'sotf' (did you mean 'soft'?)"),
        (("judge", 2, "soft", 7), "unknown seed '7'; the study wants: 1, 2"),
        (("judge", 2, "soft", 1, 500), "unknown training-set size '500'; the study wants: full"),
    ],
)
def test_a_wrong_coordinate_is_named_with_those_there_are(study: Study, coordinates: tuple, said: str) -> None:
    with pytest.raises(UserError) as error:
        Catalogue(study).student(*coordinates)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_missing_input_is_named_with_the_command_that_makes_it(study: Study) -> None:
    catalogue = Catalogue(study)
    run = catalogue.student("judge", 2, "stacked", 1)
    assert run.outputs
    complete(run.encoder, run.tokens.data, run.tokens, run.initial)
    with pytest.raises(
        UserError, match=r"recorded-.* is missing; make it with `internal-kd record-teacher --task judge`"
    ):
        catalogue.check_inputs(run)
    complete(run.outputs)
    catalogue.check_inputs(run)
    (run.tokens.folder / "content").write_text("cut")
    with pytest.raises(UserError, match=r"is broken: content has 3 bytes .* `internal-kd tokenize-task --task judge`"):
        catalogue.check_inputs(run)


def test_a_teacher_without_weights_is_complete_but_cannot_be_read(study: Study) -> None:
    teacher = study.teachers[0]
    complete(teacher)
    assert lack_of(teacher) is None
    (teacher.folder / "model/model.safetensors").unlink()
    assert lack_of(teacher) == "model/model.safetensors is missing"
    outputs = Catalogue(study).outputs("judge")
    complete(teacher.tokens)
    with pytest.raises(UserError, match=r"is broken: model/model.safetensors is missing; make it with `internal-kd tr"):
        Catalogue(study).check_inputs(outputs)
