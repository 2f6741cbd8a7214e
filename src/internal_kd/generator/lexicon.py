"""The words of the built-in grammars: everyday words, most of them one word piece in BERT's vocabulary.

Sizes matter less than independence: every word can stand in acceptable and broken, entailed and not entailed
sentences about equally often, so that words alone tell next to nothing of the label.
"""

from __future__ import annotations

from typing import NamedTuple


class Verb(NamedTuple):
    """Four forms of an English verb (no present-tense contrast is drawn with lexical verbs)."""

    base: str
    past: str
    participle: str
    gerund: str


class Noun(NamedTuple):
    """A countable noun."""

    singular: str
    plural: str

    def number(self, plural: bool) -> str:
        """Return the form of this number."""
        return self.plural if plural else self.singular


def _words(words: str) -> tuple[str, ...]:
    return tuple(words.split())


def _nouns(words: str) -> tuple[Noun, ...]:
    return tuple(Noun(word, word + "s") for word in words.split())


def _verbs(forms: str) -> tuple[Verb, ...]:
    return tuple(Verb(*verb.split()) for verb in _phrases(forms))


def _phrases(lines: str) -> tuple[str, ...]:
    return tuple(phrase.strip() for phrase in lines.replace("\n", ",").split(",") if phrase.strip())


PEOPLE = _nouns(
    "guard teacher doctor nurse farmer singer dancer lawyer driver pilot sailor painter writer student soldier king "
    "priest artist actor hunter"
)
OBJECTS = _nouns(
    "lamp book table chair clock bottle basket mirror coat guitar letter map ring hat statue carpet camera drum flag "
    "cup"
)
MEN = _words("Tom John Paul Peter David James Robert Frank Henry George Jack Charles")
WOMEN = _words("Mary Anna Susan Linda Julia Emma Helen Laura Sarah Jane Alice Ruth")
NAMES = tuple(name for pair in zip(MEN, WOMEN, strict=True) for name in pair)

INTRANSITIVE = _verbs("""
sing sang sung singing, dance danced danced dancing, sleep slept slept sleeping, laugh laughed laughed laughing,
swim swam swum swimming, smile smiled smiled smiling, wait waited waited waiting, cry cried cried crying,
work worked worked working
""")
# Past participle, past and base all differ, so that each wrong form is really wrong.
STRONG_TRANSITIVE = _verbs("""
take took taken taking, steal stole stolen stealing, break broke broken breaking, hide hid hidden hiding,
forget forgot forgotten forgetting, freeze froze frozen freezing, choose chose chosen choosing,
draw drew drawn drawing, shake shook shaken shaking, throw threw thrown throwing
""")
# Verbs that cannot do without an object.
TRANSITIVE = _verbs("""
buy bought bought buying, find found found finding, make made made making, fix fixed fixed fixing,
take took taken taking, bring brought brought bringing, destroy destroyed destroyed destroying,
repair repaired repaired repairing
""")
# Verbs that cannot take one.
UNACCUSATIVE = _verbs("""
arrive arrived arrived arriving, vanish vanished vanished vanishing, sleep slept slept sleeping,
fall fell fallen falling, disappear disappeared disappeared disappearing, wait waited waited waiting,
stumble stumbled stumbled stumbling, hesitate hesitated hesitated hesitating
""")
# Verbs whose subject and object are both people.
SOCIAL = _verbs("""
admire admired admired admiring, help helped helped helping, follow followed followed following,
thank thanked thanked thanking, blame blamed blamed blaming, watch watched watched watching,
praise praised praised praising, call called called calling, visit visited visited visiting,
trust trusted trusted trusting, attack attacked attacked attacking, invite invited invited inviting
""")
PLACES = _phrases("""
near the river, in the garden, at the station, in the kitchen, behind the church, on the bridge, at the market,
in the forest, near the harbor, in the hall, at the hotel, on the beach, near the castle, in the library,
at the airport, in the cellar, behind the school, near the tower, in the village, at the museum
""")
TIMES = _phrases("yesterday, last week, last night, last summer, last month, this morning")
HABITS = ("often", "always", "usually", "sometimes", "rarely", "seldom")
MANNERS = ("quietly", "quickly", "secretly", "finally", "suddenly", "slowly")
OBJECT_ADJECTIVES = _words("old small heavy red blue broken new large green cheap white dirty tiny wooden")
PERSON_ADJECTIVES = _words("tall young tired old rich kind brave quiet clever happy angry famous polite lazy")
HYPERNYMS = tuple(
    (Noun(kind, kind + "s"), Noun(group, group + "s"))
    for group, kinds in (
        ("animal", "dog cat horse cow goat pig lion tiger bear rabbit"),
        ("bird", "eagle crow owl duck parrot hawk robin swan"),
        ("flower", "rose tulip orchid violet"),
        ("vehicle", "car truck van taxi tractor"),
        ("tool", "hammer saw drill shovel"),
        ("building", "house hotel castle temple hut"),
    )
    for kind in kinds.split()
)
PAINTING = _verbs("""
paint painted painted painting, draw drew drawn drawing, see saw seen seeing,
photograph photographed photographed photographing, sketch sketched sketched sketching,
notice noticed noticed noticing
""")
