"""Task data made on the spot: two small English tasks that need neither a network nor a licence.

    from internal_kd.generator import generate
    splits = generate("acceptability", train=2000, dev=500, seed=0)
    splits["train"][0]  # Example(idx=0, text_a="Mary rarely blamed ...", text_b=None, label=1, phenomenon="reflexive")

``acceptability`` imitates CoLA and ``entailment`` RTE in form and label order; their modules list the phenomena, each
with an example. They are for demonstrations and tests: scores on them say nothing about GLUE. Labels turn on how words
combine, so a bag of words or the length does no better than chance while a small pre-trained encoder learns them from
a few thousand examples.

Every example is one half of a minimal pair whose other half, the twin with the other label, stands in no split: nothing
in train gives a dev example away, and the twins are drawn at random, so both sides of every contrast are seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from internal_kd.errors import UserError, nearest
from internal_kd.generator.acceptability import ACCEPTABILITY
from internal_kd.generator.entailment import ENTAILMENT
from internal_kd.generator.grammar import Example, Grammar, Phenomenon, Text
from internal_kd.registry import Registry

__all__ = ["GRAMMARS", "RECIPE", "Example", "Grammar", "Phenomenon", "check_sizes", "generate", "grammar_of"]

# Raise when the generated examples change: it is part of the fingerprint of every generated task.
RECIPE = 2

GRAMMARS = Registry("grammar", {grammar.name: grammar for grammar in (ACCEPTABILITY, ENTAILMENT)})


def generate(
    grammar: str, train: int, dev: int, seed: int, phenomena: Sequence[str] | None = None, unlabelled: int = 0
) -> dict[str, list[Example]]:
    """Return ``{"train": [...], "dev": [...]}`` with as many examples as asked for, balanced to within one example.

    ``phenomena`` leaves out all others of the grammar; ``unlabelled`` asks for a third list, which moves neither of the
    two. The result depends on nothing but the arguments and RECIPE. No text occurs twice, and no dev example, nor the
    twin of one, is in train. Raises UserError for an unknown grammar or phenomenon, a size below 1, or more examples
    than the grammar is sure to have.
    """
    rules = grammar_of(grammar, phenomena)
    check_sizes(rules, train, dev, unlabelled)
    rng, of_more = Random(seed), Random(f"unlabelled {seed}")
    drawn: dict[str, list[tuple[Text, int, str]]] = {"train": [], "dev": [], "unlabelled": []}
    cells = len(rules.phenomena) * 2
    for number, phenomenon in enumerate(rules.phenomena):
        # A split's size is dealt over the (phenomenon, label) cells; the first cells take what does not divide.
        counts = {
            split: [(size + cells - 1 - (2 * number + label)) // cells for label in (0, 1)]
            for split, size in (("train", train), ("dev", dev))
        }
        sampled = rng.sample(range(phenomenon.size), sum(map(sum, counts.values())))
        indices = iter(sampled)
        for split, per_label in counts.items():
            for label, count in enumerate(per_label):
                for _ in range(count):
                    text = phenomenon.twins(next(indices), rng)[label]
                    drawn[split].append((text, label, phenomenon.name))
        more = (unlabelled + len(rules.phenomena) - 1 - number) // len(rules.phenomena)
        for index in of_more.sample(sorted(set(range(phenomenon.size)).difference(sampled)), more):
            label = of_more.randrange(2)
            drawn["unlabelled"].append((phenomenon.twins(index, of_more)[label], label, phenomenon.name))
    for examples in drawn.values():
        rng.shuffle(examples)
    return {
        split: [Example(idx, text.a, text.b, label, name) for idx, (text, label, name) in enumerate(examples)]
        for split, examples in drawn.items()
        if examples
    }


def check_sizes(grammar: Grammar, train: int, dev: int, unlabelled: int = 0) -> None:
    """Refuse a split without examples, and more examples than a grammar is sure to have, by UserError."""
    sizes = {"train": train, "dev": dev, **({"unlabelled": unlabelled} if unlabelled else {})}
    for split, size in sizes.items():
        if size < 1:
            raise UserError(f"{split} size {size} of the generated {grammar.name} task is below 1; ask for at least 1")
    if (total := sum(sizes.values())) > grammar.capacity:
        raise UserError(
            f"{' + '.join(f'{split} {size}' for split, size in sizes.items())} = {total} examples are more than the "
            f"{grammar.capacity} that {grammar.name} is sure to have; ask for fewer"
        )


def grammar_of(name: str, phenomena: Sequence[str] | None = None) -> Grammar:
    """Return a grammar, with the named phenomena only; raises UserError when one is unknown."""
    grammar = GRAMMARS[name]
    names = [phenomenon.name for phenomenon in grammar.phenomena]
    chosen = names if phenomena is None else phenomena
    for each in chosen:
        if each not in names:
            raise UserError(f"unknown phenomenon {each!r} of {name}{nearest(each, names)}; known: {', '.join(names)}")
    # In the grammar's order, whatever the order in which they were named.
    return replace(grammar, phenomena=tuple(each for each in grammar.phenomena if each.name in chosen))
