"""What is repaired in answers and sentences that people and language models write: named rules, each counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from internal_kd.errors import UserError

# What each rule does. A rule of ALWAYS changes no meaning and is applied to any file; the others are refused where
# repairs were not asked for.
RULES = {
    "I- without B-": "begins an entity",
    "BILOU letters": "last and end become I-, unit and single B-",
    "sentence without tokens": "left out",
    "zero-width character": "removed",
    "brackets around a tag": "removed",
    "type without B- or I-": "I- after a token of the same type, else B-",
    "type cut short": "becomes the one type that begins so",
    "unknown type": "becomes O",
    "no tag": "becomes O",
    "several words in a line": "each gets the line's tag",
    "tag glued to the word": "parted from it",
    "heading": "left out",
    "tokens and tags differ in number": "left out",
    "span leaves the text": "left out",
    "spans overlap": "the longer one stays",
    "span ends inside a word": "widened to the word",
    "entity not in the text": "left out",
    "numbers for other words": "left out",
    "entity without text or type": "left out",
    "entity in other capitals": "found all the same",
    "label in other spelling": "read as the class",
    "label in a sentence": "read as the one class that it names",
    "no class named": "left out",
    "no answer of the server": "left out",
    "not JSON": "left out",
    "JSON in a code block": "taken out of it",
}
ALWAYS = frozenset({"I- without B-", "BILOU letters", "sentence without tokens"})
EXAMPLES = 10


@dataclass
class Repairs:
    """What was repaired in a file, by rule.

    Attributes:
        asked: whether rules that change a meaning are applied; if not, what they would repair is refused.
        way_out: ends the line of a refusal.
        examples: for each rule the first ten places with what stood there.
    """

    path: Path
    asked: bool = True
    way_out: str = "correct it, or set `cleaned: true` to repair it by rule"
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def note(self, rule: str, place: str, found: str) -> None:
        """Count a rule.

        Raises:
            UserError: repairs were not asked for, and the rule changes a meaning.
        """
        shown = " ".join(found.split())
        if not (self.asked or rule in ALWAYS):
            raise UserError(f"{self.path} {place}: {rule} ({shown[:60]!r}); {self.way_out}")
        self.counts[rule] += 1
        kept = self.examples.setdefault(rule, [])
        if len(kept) < EXAMPLES:
            kept.append(f"{place}: {shown[:80]}")

    @property
    def dropped(self) -> dict[str, int]:
        """How often each rule was applied that leaves something out."""
        return {rule: count for rule, count in self.counts.items() if RULES[rule] == "left out"}

    def lines(self) -> list[str]:
        """Return what was repaired, one line for each rule, most frequent first."""
        return [f"{rule}: {count} ({RULES[rule]})" for rule, count in self.counts.most_common()]
