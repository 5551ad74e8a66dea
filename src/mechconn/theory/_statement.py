"""What a check of a statement returns: its status, what it assumes and whether that holds here, and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from mechconn.plotting import Cell, Header, Result, Section, Table

StatementStatus = Literal["proved", "shown by example", "conjectured"]


@dataclass(frozen=True)
class Assumption:
    """Something that a statement needs.

    Attributes:
        text: what is needed.
        holds: whether it does here.
        measured: the number by which that was judged.
    """

    text: str
    holds: bool
    measured: float


@dataclass(frozen=True, repr=False)
class Evidence(Result, kind="evidence"):
    """What one pair of networks says of one statement; no proof, and no verdict on the statement.

    Attributes:
        name: "Lemma 2", "Theorem 1", "Corollary" or "Exception".
        claim: the statement.
        status: "proved", "shown by example" (it says that something can be) or "conjectured".
        assumptions: what the statement needs, each with what was measured. Where one fails, it says nothing here.
        numbers: what was measured of what it claims.
        as_claimed: whether those numbers are as it claims, whether or not it applies.
        sentence: the outcome in words.
    """

    derived: ClassVar[tuple[str, ...]] = ("applies",)

    name: str
    claim: str
    status: StatementStatus
    assumptions: tuple[Assumption, ...]
    numbers: Mapping[str, float]
    as_claimed: bool
    sentence: str

    @property
    def applies(self) -> bool:
        """Whether every assumption holds."""
        return all(assumption.holds for assumption in self.assumptions)

    def header(self) -> Header:
        """The statement, its name and status, and the outcome."""
        return Header(f"{self.name}: {self.claim}", verdict=self.status, why=self.sentence)

    def rows(self) -> list[dict[str, Any]]:
        """One record for each assumption and each number: what it is, its value, and whether an assumption holds."""
        assumed = [
            {"assumed": a.text, "measured": None, "value": a.measured, "holds": a.holds} for a in self.assumptions
        ]
        found = [{"assumed": None, "measured": name, "value": x, "holds": None} for name, x in self.numbers.items()]
        return [*assumed, *found]

    def sections(self) -> list[Section]:
        """What is assumed, whether it holds here, and what was measured of the claim."""
        assumed = tuple(
            (
                a.text,
                Cell("holds" if a.holds else "does not hold", style="holds" if a.holds else "does-not-hold"),
                f"{a.measured:.3g}",
            )
            for a in self.assumptions
        )
        measured = tuple((name, f"{value:.3g}") for name, value in self.numbers.items())
        return [
            Section(
                "What is assumed", tables=(Table(("assumption", "here", "measured"), assumed, words=frozenset({0})),)
            ),
            Section("What was measured", tables=(Table(("number", "value"), measured),), note=self.sentence),
        ]

    def __str__(self) -> str:
        lines = [f"{self.name} ({self.status}): {self.claim}"]
        for assumption in self.assumptions:
            found = "holds" if assumption.holds else "DOES NOT HOLD"
            lines.append(f"  assumed: {assumption.text}: {found} ({assumption.measured:.3g})")
        lines += [f"  {name}: {value:.3g}" for name, value in self.numbers.items()]
        return "\n".join([*lines, f"  {self.sentence}"])


def conclude(
    assumptions: tuple[Assumption, ...], as_claimed: bool, outcome: str, otherwise: str = "That is NOT as it says."
) -> str:
    """The outcome, and what it is worth."""
    if missing := [assumption.text for assumption in assumptions if not assumption.holds]:
        return f"{outcome} The statement does not apply, for want of: {'; '.join(missing)}."
    return f"{outcome} {'That is as the statement says.' if as_claimed else otherwise}"
