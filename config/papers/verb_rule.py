"""A rule that tags the species sentences without reading more of them than three verbs.

Every clause reads "X live in H", "X feed on F" or "X breed by B": what stands before the verb is the species, what
stands after the verb and its preposition is of the verb's type, up to where the sentence names its first word again. The
one number that is learned is how sure the rule is. It says how much of a tagger's score the sentences' pattern explains.
"""

from __future__ import annotations

import math
from typing import Literal

from internal_kd.errors import UserError
from internal_kd.fields import Frozen
from internal_kd.learners.learner import LEARNERS, Network, ParameterCount, Shape

VERBS = {"live": "HABITAT", "lives": "HABITAT", "feed": "FEEDING", "feeds": "FEEDING", "breed": "BREEDING",
         "breeds": "BREEDING"}  # fmt: skip
PREPOSITIONS = ("in", "on", "by")
SUBJECT = "SPECIES"


class VerbRule(Frozen):
    """The rule as a learner: it takes an encoder's vocabulary and nothing else."""

    kind: Literal["verb_rule"] = "verb_rule"

    hands_out = property(lambda self: frozenset({"logits"}))
    short_name = property(lambda self: "rule")
    starts_from = property(lambda self: "encoder")
    draws = property(lambda self: False)

    def form(self, images):
        if images:
            raise UserError("kind: 'verb_rule' reads texts")
        return "tokens"

    def identity(self):
        return {}  # no first weights are cut out of the encoder; the code of a plugin counts by itself

    def shape(self, source):
        return Shape(0, None, None, None, self.kind, self.hands_out)

    def build(self, source, outputs, seed, *, labels=(), kind="classes"):
        from transformers import AutoTokenizer

        if kind != "tags" or SUBJECT not in {label[2:] for label in labels}:
            raise UserError("kind: 'verb_rule' is for the tags SPECIES, HABITAT, FEEDING and BREEDING")
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
        ids = {word: tokenizer.convert_tokens_to_ids(word) for word in (*VERBS, *PREPOSITIONS)}
        return network(list(labels), ids)

    def load(self, folder, outputs, *, labels=()):
        from safetensors.torch import load_file
        import json

        facts = json.loads((folder / "rule.json").read_text())
        made = network(facts["labels"], facts["ids"])
        made.module.load_state_dict(load_file(folder / "model.safetensors"))
        return made


def network(labels, ids):
    """Return the rule for these tags and this vocabulary."""
    import torch
    from torch import nn

    class Sureness(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(math.log(4.0)))

        def forward(self, tags):
            return nn.functional.one_hot(tags, len(labels)).float() * self.scale.exp()

    class Rule(Network):
        layers = width = heads = 0
        hands_out = frozenset({"logits"})

        def __init__(self):
            self.module = Sureness()

        def read(self, batch, wanted=frozenset({("logits", 0)})):
            found = [
                labels.index(tag)
                for tokens, rows in zip(batch["input_ids"], batch["rows"], strict=True)
                for tag in tagged(tokens[rows >= 0].tolist(), ids)
            ]
            tags = torch.tensor(found, device=batch["input_ids"].device)
            return {("logits", 0): self.module(tags)}

        def save(self, folder):
            import json

            from safetensors.torch import save_file

            folder.mkdir(parents=True)
            save_file({name: weight.detach().cpu() for name, weight in self.module.state_dict().items()},
                      folder / "model.safetensors")  # fmt: skip
            (folder / "rule.json").write_text(json.dumps({"labels": labels, "ids": ids}))

        def count_parameters(self):
            return ParameterCount(1, 1)

    return Rule()


def tagged(words, ids):
    """Return the tags of a sentence, given the first piece of each word."""
    verbs = {ids[word]: name for word, name in VERBS.items()}
    prepositions = {ids[word] for word in PREPOSITIONS}
    tags, name, begins = [], SUBJECT, True
    for place, word in enumerate(words):
        if word in verbs and name == SUBJECT:
            tags.append("O")
            name, begins = verbs[word], True
        elif word in prepositions and tags[-1:] == ["O"] and begins:
            tags.append("O")
        else:
            if place and word == words[0] and name != SUBJECT:
                name, begins = SUBJECT, True
            tags.append(f"{'B' if begins else 'I'}-{name}")
            begins = False
    return tags


LEARNERS.add("verb_rule", f"{__name__}:VerbRule")
