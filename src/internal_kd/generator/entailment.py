"""Entailment: does the first sentence entail the second? (labels as in RTE)

============  ======================================  =====================================  ==============
phenomenon    first sentence                          second sentence                        label
============  ======================================  =====================================  ==============
adjective     Some tired guards sang at the hotel.    Some guards sang at the hotel.         entailment
              No tired guards sang at the hotel.      No guards sang at the hotel.           not_entailment
hypernym      Tom often painted a dog in the hall.    Tom often painted an animal in ...     entailment
              Tom never painted a dog in the hall.    Tom never painted an animal in ...     not_entailment
conjunction   All guards sang and danced in ...       All guards sang in the garden.         entailment
              Few guards sang in the garden.          Few guards sang and danced in ...      entailment
numeral       At most three guards sang in ...        At most five guards sang in ...        entailment
              At least three guards sang in ...       At least five guards sang in ...       not_entailment
implicative   Tom failed to break the old lamp ...    Tom did not break the old lamp ...     entailment
              Tom managed to break the old lamp ...   Tom did not break the old lamp ...     not_entailment
voice         The guard thanked the nurse in ...      The nurse was thanked by the guard.    entailment
              The guard thanked the nurse in ...      The guard was thanked by the nurse.    not_entailment
detail        Tom took a lamp and a clock at ...      Tom took a clock.                      entailment
              Tom took a lamp and a clock at ...      Tom took a map.                        not_entailment
participant   The guard and the nurse slept in ...    The nurse slept.                       entailment
              The guard and the nurse slept in ...    The pilot slept.                       not_entailment
factive       Tom knows that the guard slept in ...   The guard slept in the hall.           entailment
              Tom hopes that the guard slept in ...   The guard slept in the hall.           not_entailment
============  ======================================  =====================================  ==============

The first four turn on monotonicity: what follows under "some" does not under "no", and the other way round, so in them
neither the quantifier, nor which sentence is longer, nor the overlap of words tells the label. "detail", "participant"
and "factive" are easier on purpose (a word that is missing, a word that is there): without them an encoder trained on
a few thousand examples finds no slope to start on. Twins are the same two sentences in either order, or share one
sentence and differ in one word or in who does what.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from internal_kd.generator import lexicon as lex
from internal_kd.generator.grammar import Grammar, Phenomena, Text, Twins, sentence


class Quantifier(NamedTuple):
    """Words before a noun, and whether what they govern may be widened (upward monotone)."""

    words: str
    upward: bool


def _quantifiers(upward: str, downward: str) -> tuple[Quantifier, ...]:
    return tuple(Quantifier(w, words is upward) for words in (upward, downward) for w in words.split(", "))


# By where the change happens: "all" is downward for its noun and upward for its verb.
NOUN_QUANTIFIERS = _quantifiers("some, several", "no, all")
VERB_QUANTIFIERS = _quantifiers("some, all", "no, few")
_BOUNDS = _quantifiers("at least, more than", "at most, fewer than")
NEGATED = ORDERS = (False, True)
_VERBS = len(lex.INTRANSITIVE)
_PHENOMENA = Phenomena()


def _monotone(upward: bool, specific: str, general: str) -> Twins:
    """Twins of two sentences, one narrower where the context is upward or downward monotone."""
    entailed, reverse = Text(specific, general), Text(general, specific)
    return Twins(entailed, reverse) if upward else Twins(reverse, entailed)


def _clause(name: str, negated: bool, verb: lex.Verb, rest: str) -> str:
    return sentence(name, f"did not {verb.base}" if negated else verb.past, rest)


def _frequency(name: str, never: bool, verb: lex.Verb, rest: str) -> str:
    # One word either way: a negation longer than its absence would let the length stand in for it.
    return sentence(name, "never" if never else "often", verb.past, rest)


def _article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _pairs(words: tuple[lex.Noun, ...]) -> tuple[tuple[lex.Noun, lex.Noun], ...]:
    return tuple((first, second) for first in words for second in words if first != second)


_PEOPLE_PAIRS = _pairs(lex.PEOPLE)


@_PHENOMENA.over(NOUN_QUANTIFIERS, lex.PERSON_ADJECTIVES, lex.PEOPLE, lex.INTRANSITIVE, lex.PLACES)
def _adjective(
    rng: Random, quantifier: Quantifier, adjective: str, noun: lex.Noun, verb: lex.Verb, place: str
) -> Twins:
    def text(modifier: str) -> str:
        return sentence(quantifier.words, modifier, noun.plural, verb.past, place)

    return _monotone(quantifier.upward, text(adjective), text(""))


@_PHENOMENA.over(lex.NAMES, NEGATED, lex.PAINTING, lex.HYPERNYMS, lex.PLACES)
def _hypernym(
    rng: Random, name: str, negated: bool, verb: lex.Verb, nouns: tuple[lex.Noun, lex.Noun], place: str
) -> Twins:
    kind, group = nouns
    specific, general = (_frequency(name, negated, verb, f"{_article(n.singular)} {place}") for n in (kind, group))
    return _monotone(not negated, specific, general)


@_PHENOMENA.over(VERB_QUANTIFIERS, lex.PEOPLE, range(_VERBS), range(1, _VERBS), lex.PLACES)
def _conjunction(rng: Random, quantifier: Quantifier, noun: lex.Noun, verb: int, other: int, place: str) -> Twins:
    first = lex.INTRANSITIVE[verb]
    second = lex.INTRANSITIVE[(verb + other) % _VERBS]

    def text(*verbs: lex.Verb) -> str:
        return sentence(quantifier.words, noun.plural, " and ".join(v.past for v in verbs), place)

    return _monotone(quantifier.upward, text(first, second), text(first))


@_PHENOMENA.over(lex.NAMES, lex.STRONG_TRANSITIVE, _pairs(lex.OBJECTS), lex.PLACES)
def _detail(rng: Random, name: str, verb: lex.Verb, things: tuple[lex.Noun, lex.Noun], place: str) -> Twins:
    premise = sentence(name, verb.past, " and ".join(_article(thing.singular) for thing in things), place)
    wrong = rng.choice([thing for thing in lex.OBJECTS if thing not in things])
    return Twins(*(Text(premise, sentence(name, verb.past, _article(n.singular))) for n in (rng.choice(things), wrong)))


_NUMBER_WORDS = ("two", "three", "four", "five", "six")
_NUMBER_PAIRS = tuple((low, high) for i, low in enumerate(_NUMBER_WORDS) for high in _NUMBER_WORDS[i + 1 :])


@_PHENOMENA.over(_BOUNDS, _NUMBER_PAIRS, lex.PEOPLE, lex.INTRANSITIVE, lex.PLACES)
def _numeral(
    rng: Random, bound: Quantifier, numbers: tuple[str, str], noun: lex.Noun, verb: lex.Verb, place: str
) -> Twins:
    low, high = (sentence(bound.words, number, noun.plural, verb.past, place) for number in numbers)
    return _monotone(bound.upward, high, low)


@_PHENOMENA.over(_PEOPLE_PAIRS, lex.SOCIAL, ORDERS, lex.PLACES)
def _voice(rng: Random, people: tuple[lex.Noun, lex.Noun], verb: lex.Verb, passive: bool, place: str) -> Twins:
    doer, other = (noun.singular for noun in people)

    def text(agent: str, patient: str, in_passive: bool, where: str = "") -> str:
        if in_passive:
            return sentence("the", patient, "was", verb.participle, "by the", agent, where)
        return sentence("the", agent, verb.past, "the", patient, where)

    premise = text(doer, other, passive, place)
    return Twins(Text(premise, text(doer, other, not passive)), Text(premise, text(other, doer, not passive)))


@_PHENOMENA.over(_PEOPLE_PAIRS, lex.INTRANSITIVE, lex.PLACES)
def _participant(rng: Random, people: tuple[lex.Noun, lex.Noun], verb: lex.Verb, place: str) -> Twins:
    premise = sentence(" and ".join(f"the {noun.singular}" for noun in people), verb.past, place)
    wrong = rng.choice([noun for noun in lex.PEOPLE if noun not in people])
    return Twins(*(Text(premise, sentence("the", n.singular, verb.past)) for n in (rng.choice(people), wrong)))


# Twin verbs have the same number of letters.
_FACTIVES = ("knows", "proved", "learned", "noticed")
_NON_FACTIVES = ("hopes", "thinks", "claimed", "dreamed")


@_PHENOMENA.over(lex.NAMES, range(len(_FACTIVES)), lex.PEOPLE, lex.INTRANSITIVE, lex.PLACES)
def _factive(rng: Random, name: str, attitude: int, noun: lex.Noun, verb: lex.Verb, place: str) -> Twins:
    claim = f"the {noun.singular} {verb.past} {place}"
    premises = (sentence(name, words[attitude], "that", claim) for words in (_FACTIVES, _NON_FACTIVES))
    return Twins(*(Text(premise, sentence(claim)) for premise in premises))


_IMPLICATIVES = (("managed to", True), ("happened to", True), ("failed to", False), ("refused to", False))


@_PHENOMENA.over(lex.NAMES, _IMPLICATIVES, lex.STRONG_TRANSITIVE, lex.OBJECT_ADJECTIVES, lex.OBJECTS, lex.TIMES)
def _implicative(
    rng: Random, name: str, implicative: tuple[str, bool], verb: lex.Verb, adjective: str, thing: lex.Noun, time: str
) -> Twins:
    words, true = implicative
    rest = f"the {adjective} {thing.singular} {time}"
    premise = sentence(name, words, verb.base, rest)
    return Twins(*(Text(premise, _clause(name, negated, verb, rest)) for negated in (not true, true)))


ENTAILMENT = Grammar("entailment", ("entailment", "not_entailment"), tuple(_PHENOMENA))
