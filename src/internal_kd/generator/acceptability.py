"""Acceptability: one sentence, acceptable English or not (labels as in CoLA).

Every unacceptable sentence is the minimally broken twin of an acceptable one.

===================  =============================================  ==============================================
phenomenon           acceptable                                     unacceptable
===================  =============================================  ==============================================
agreement            The guards are singing near the river.         The guards is singing near the river.
agreement_attractor  The guard behind the singers is tired ...      The guard behind the singers are tired ...
                     The guards that the nurse admired were old...  The guards that the nurse admired was old ...
determiner_noun      Tom took those lamps at the hotel.             Tom took those lamp at the hotel.
word_order           Mary may have quietly stolen the old lamp.     Mary may have quietly stolen old the lamp.
phrase_order         Paul broke the clock in the hall yesterday.    Paul broke the clock the hall in yesterday.
reflexive            Mary rarely blamed herself in the garden.      Mary rarely blamed himself in the garden.
filler_gap           Tom knows what the guard fixed near the lamp.  Tom knows that the guard fixed near the lamp.
                     Tom knows that the guard fixed the lamp.       Tom knows what the guard fixed the lamp.
polarity             No guard that the nurses trust has ever slept  The guard that no nurses trust has ever slept
                     in the hall.                                   in the hall.
verb_form            Mary has quietly taken the old lamp.           Mary has quietly taking the old lamp.
argument_structure   The guard vanished near the lamp.              The guard repaired near the lamp.
                     The guard repaired the lamp.                   The guard vanished the lamp.
inversion            They asked why the guard was singing ...       They asked why was the guard singing ...
                     So why was the guard singing ...?              So why the guard was singing ...?
===================  =============================================  ==============================================

Either value of each contrast (singular or plural, with or without an object, "that" or "what") is as frequent in
acceptable as in unacceptable sentences: only the combination tells.
"""

from __future__ import annotations

from random import Random

from internal_kd.generator import lexicon as lex
from internal_kd.generator.grammar import Grammar, Phenomena, Text, Twins, sentence

NUMBERS = (False, True)  # plural?
PREPOSITIONS = ("near", "behind", "beside", "with")
COPULAS = (("is", "are"), ("was", "were"), ("has been", "have been"))
_LINKS = (*PREPOSITIONS, *(verb.past for verb in lex.SOCIAL[:4]))
_DETERMINERS = (("this", False), ("that", False), ("these", True), ("those", True))
_MATRIX = tuple(f"{name} {verb}" for name in lex.NAMES for verb in ("knows", "remembers", "forgot"))
_PHENOMENA = Phenomena()


def _twins(broken: str, good: str) -> Twins:
    return Twins(Text(broken), Text(good))


def _other(rng: Random, words: tuple[lex.Noun, ...], taken: lex.Noun) -> lex.Noun:
    return rng.choice([word for word in words if word != taken])


@_PHENOMENA.over(lex.PEOPLE, NUMBERS, COPULAS, lex.INTRANSITIVE, lex.PLACES)
def _agreement(rng: Random, noun: lex.Noun, plural: bool, copula: tuple[str, str], verb: lex.Verb, place: str) -> Twins:
    def text(verb_plural: bool) -> str:
        return sentence("the", noun.number(plural), copula[verb_plural], verb.gerund, place)

    return _twins(text(not plural), text(plural))


@_PHENOMENA.over(lex.PEOPLE, NUMBERS, NUMBERS, _LINKS, COPULAS, lex.PERSON_ADJECTIVES, lex.PLACES)
def _agreement_attractor(
    rng: Random,
    noun: lex.Noun,
    plural: bool,
    attractor_plural: bool,
    link: str,
    copula: tuple[str, str],
    adjective: str,
    place: str,
) -> Twins:
    attractor = _other(rng, lex.PEOPLE, noun).number(attractor_plural)
    modifier = f"that the {attractor} {link}" if link.endswith("ed") else f"{link} the {attractor}"

    def text(verb_plural: bool) -> str:
        return sentence("the", noun.number(plural), modifier, copula[verb_plural], adjective, place)

    return _twins(text(not plural), text(plural))


@_PHENOMENA.over(lex.NAMES, lex.STRONG_TRANSITIVE, _DETERMINERS, lex.OBJECTS, lex.PLACES)
def _determiner_noun(
    rng: Random, name: str, verb: lex.Verb, determiner: tuple[str, bool], noun: lex.Noun, place: str
) -> Twins:
    word, plural = determiner

    def text(noun_plural: bool) -> str:
        return sentence(name, verb.past, word, noun.number(noun_plural), place)

    return _twins(text(not plural), text(plural))


@_PHENOMENA.over(
    lex.NAMES, ("must have", "may have"), lex.MANNERS, lex.STRONG_TRANSITIVE, lex.OBJECT_ADJECTIVES, lex.OBJECTS
)
def _word_order(
    rng: Random, name: str, auxiliary: str, adverb: str, verb: lex.Verb, adjective: str, noun: lex.Noun
) -> Twins:
    words = [name, auxiliary, adverb, verb.participle, "the", adjective, noun.singular]
    # Neighbours that English never swaps: taken/the, the/old, old/lamp.
    first = rng.choice((3, 4, 5))
    swapped = [*words[:first], words[first + 1], words[first], *words[first + 2 :]]
    return _twins(sentence(*swapped), sentence(*words))


@_PHENOMENA.over(lex.NAMES, lex.STRONG_TRANSITIVE, lex.OBJECTS, lex.PLACES, lex.TIMES)
def _phrase_order(rng: Random, name: str, verb: lex.Verb, thing: lex.Noun, place: str, time: str) -> Twins:
    preposition, where = place.split(" ", 1)
    verb_phrase = (verb.past, f"the {thing.singular}")
    broken = rng.choice(((*verb_phrase, where, preposition), (*verb_phrase[::-1], preposition, where)))
    return _twins(sentence(name, *broken, time), sentence(name, *verb_phrase, preposition, where, time))


_REFLEXIVES = ("himself", "herself", "themselves")
_REFLEXIVE_SUBJECTS = (
    *((name, 0) for name in lex.MEN),
    *((name, 1) for name in lex.WOMEN),
    *((f"the {noun.plural}", 2) for noun in lex.PEOPLE[: len(lex.MEN)]),
)


@_PHENOMENA.over(_REFLEXIVE_SUBJECTS, lex.HABITS, lex.SOCIAL, lex.PLACES)
def _reflexive(rng: Random, subject: tuple[str, int], habit: str, verb: lex.Verb, place: str) -> Twins:
    words, right = subject
    wrong = (right + rng.choice((1, 2))) % 3

    def text(reflexive: int) -> str:
        return sentence(words, habit, verb.past, _REFLEXIVES[reflexive], place)

    return _twins(text(wrong), text(right))


@_PHENOMENA.over(_MATRIX, lex.PEOPLE, lex.TRANSITIVE, NUMBERS, lex.OBJECTS, lex.TIMES)
def _filler_gap(
    rng: Random, opening: str, noun: lex.Noun, verb: lex.Verb, has_gap: bool, thing: lex.Noun, time: str
) -> Twins:
    # The noun stands in both halves, as the object or inside the place, so that its presence tells nothing.
    rest = f"{rng.choice(PREPOSITIONS[:3])} the {thing.singular}" if has_gap else f"the {thing.singular}"

    def text(word: str) -> str:
        return sentence(opening, word, "the", noun.singular, verb.past, rest, time)

    what, that = text("what"), text("that")
    return _twins(that, what) if has_gap else _twins(what, that)


@_PHENOMENA.over(lex.PEOPLE, lex.SOCIAL, ("has", "had"), lex.INTRANSITIVE, lex.PLACES)
def _polarity(rng: Random, noun: lex.Noun, social: lex.Verb, auxiliary: str, verb: lex.Verb, place: str) -> Twins:
    inner = _other(rng, lex.PEOPLE, noun).plural

    def text(outer_word: str, inner_word: str) -> str:
        clause = f"that {inner_word} {inner} {social.base}"
        return sentence(outer_word, noun.singular, clause, auxiliary, "ever", verb.participle, place)

    return _twins(text("the", "no"), text("no", "the"))


_AUXILIARIES = (("has", 1), ("had", 1), ("is", 2), ("was", 2), ("will", 0), ("must", 0))


@_PHENOMENA.over(lex.NAMES, _AUXILIARIES, lex.MANNERS, lex.STRONG_TRANSITIVE, lex.OBJECT_ADJECTIVES, lex.OBJECTS)
def _verb_form(
    rng: Random, name: str, auxiliary: tuple[str, int], manner: str, verb: lex.Verb, adjective: str, noun: lex.Noun
) -> Twins:
    word, right = auxiliary
    forms = (verb.base, verb.participle, verb.gerund)
    wrong = (right + rng.choice((1, 2))) % 3

    def text(form: int) -> str:
        return sentence(name, word, manner, forms[form], "the", adjective, noun.singular)

    return _twins(text(wrong), text(right))


@_PHENOMENA.over(lex.PEOPLE, range(len(lex.TRANSITIVE)), NUMBERS, lex.OBJECTS, lex.OBJECT_ADJECTIVES, lex.TIMES)
def _argument_structure(
    rng: Random, noun: lex.Noun, verb: int, has_object: bool, thing: lex.Noun, adjective: str, time: str
) -> Twins:
    transitive, intransitive = lex.TRANSITIVE[verb].past, lex.UNACCUSATIVE[verb].past
    place = "" if has_object else rng.choice(PREPOSITIONS[:3])

    def text(word: str) -> str:
        return sentence("the", noun.singular, word, place, "the", adjective, thing.singular, time)

    with_transitive, with_intransitive = text(transitive), text(intransitive)
    return _twins(with_intransitive, with_transitive) if has_object else _twins(with_transitive, with_intransitive)


_OPENINGS = (
    *((word, False) for word in ("they asked", "we asked", "she asked", "he asked")),
    *((word, True) for word in ("so", "and", "but", "then")),
)


@_PHENOMENA.over(_OPENINGS, ("why", "when", "where"), range(2), lex.PEOPLE, lex.INTRANSITIVE, lex.PLACES)
def _inversion(
    rng: Random, opening: tuple[str, bool], wh: str, copula: int, noun: lex.Noun, verb: lex.Verb, place: str
) -> Twins:
    word, inverted = opening
    be, subject = ("was", noun.singular) if copula == 0 else ("were", noun.plural)

    def text(invert: bool) -> str:
        middle = (be, "the", subject) if invert else ("the", subject, be)
        return sentence(word, wh, *middle, verb.gerund, place, end="?" if inverted else ".")

    return _twins(text(not inverted), text(inverted))


ACCEPTABILITY = Grammar("acceptability", ("unacceptable", "acceptable"), tuple(_PHENOMENA))
