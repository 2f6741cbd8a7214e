"""The words of the built-in grammars: everyday words, most of them one word piece in BERT's vocabulary.

Sizes matter less than independence: every word can stand in acceptable and broken, entailed and not entailed
sentences equally often, so that no word alone tells the label.
"""

from __future__ import annotations

from typing import NamedTuple


class Verb(NamedTuple):
    """The five forms of an English verb."""

    base: str
    third: str
    past: str
    participle: str
    gerund: str

    def present(self, plural: bool) -> str:
        """Return the present-tense form that agrees with a subject of this number."""
        return self.base if plural else self.third


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


def _verbs(lines: str) -> tuple[Verb, ...]:
    return tuple(Verb(*line.split()) for line in lines.strip().splitlines())


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
sing sings sang sung singing
dance dances danced danced dancing
sleep sleeps slept slept sleeping
laugh laughs laughed laughed laughing
swim swims swam swum swimming
smile smiles smiled smiled smiling
wait waits waited waited waiting
cry cries cried cried crying
work works worked worked working
""")
# Past participle, past and base all differ, so that each wrong form is really wrong.
STRONG_TRANSITIVE = _verbs("""
take takes took taken taking
steal steals stole stolen stealing
break breaks broke broken breaking
hide hides hid hidden hiding
forget forgets forgot forgotten forgetting
freeze freezes froze frozen freezing
choose chooses chose chosen choosing
draw draws drew drawn drawing
shake shakes shook shaken shaking
throw throws threw thrown throwing
""")
# Verbs that cannot do without an object.
TRANSITIVE = _verbs("""
buy buys bought bought buying
find finds found found finding
make makes made made making
fix fixes fixed fixed fixing
take takes took taken taking
bring brings brought brought bringing
destroy destroys destroyed destroyed destroying
repair repairs repaired repaired repairing
""")
# Verbs that cannot take one.
UNACCUSATIVE = _verbs("""
arrive arrives arrived arrived arriving
vanish vanishes vanished vanished vanishing
sleep sleeps slept slept sleeping
fall falls fell fallen falling
disappear disappears disappeared disappeared disappearing
wait waits waited waited waiting
stumble stumbles stumbled stumbled stumbling
hesitate hesitates hesitated hesitated hesitating
""")
# Verbs whose subject and object are both people.
SOCIAL = _verbs("""
admire admires admired admired admiring
help helps helped helped helping
follow follows followed followed following
thank thanks thanked thanked thanking
blame blames blamed blamed blaming
watch watches watched watched watching
praise praises praised praised praising
call calls called called calling
visit visits visited visited visiting
trust trusts trusted trusted trusting
attack attacks attacked attacked attacking
invite invites invited invited inviting
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
paint paints painted painted painting
draw draws drew drawn drawing
see sees saw seen seeing
photograph photographs photographed photographed photographing
sketch sketches sketched sketched sketching
notice notices noticed noticed noticing
""")
