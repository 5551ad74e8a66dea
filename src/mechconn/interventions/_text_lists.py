"""Small English word lists: groups of words that can stand for one another."""

from __future__ import annotations

from typing import TypeAlias

Groups: TypeAlias = tuple[tuple[str, ...], ...]

WOMEN = (
    "Alice", "Anna", "Carol", "Clara", "Diana", "Ellen", "Emily", "Emma", "Grace", "Hannah", "Helen", "Jane", "Julia",
    "Karen", "Kate", "Laura", "Linda", "Lisa", "Lucy", "Maria", "Mary", "Nancy", "Olivia", "Sarah", "Sophie", "Susan",
)  # fmt: skip
MEN = (
    "Adam", "Alex", "Andrew", "Ben", "Brian", "Charles", "Daniel", "David", "Edward", "Eric", "Frank", "George",
    "Henry", "Jack", "James", "John", "Kevin", "Martin", "Michael", "Paul", "Peter", "Robert", "Steve", "Thomas",
    "Tom", "William",
)  # fmt: skip
CITIES = (
    "Amsterdam", "Athens", "Berlin", "Boston", "Cairo", "Chicago", "Dublin", "London", "Los Angeles", "Madrid", "Miami",
    "Moscow", "New York", "Oslo", "Paris", "Prague", "Rome", "San Francisco", "Seattle", "Sydney", "Tokyo", "Toronto",
    "Vienna",
)  # fmt: skip
COUNTRIES = (
    "Australia", "Brazil", "Canada", "China", "Egypt", "England", "France", "Germany", "Greece", "India", "Ireland",
    "Italy", "Japan", "Kenya", "Mexico", "Norway", "Poland", "Russia", "Spain", "Sweden", "Turkey",
)  # fmt: skip

WORD_LISTS: dict[str, Groups] = {
    "names": (WOMEN, MEN),
    "pronouns": (("he", "she"), ("him", "her"), ("his", "her"), ("his", "hers"), ("himself", "herself")),
    "places": (CITIES, COUNTRIES),
}
"""Groups of first names, pronouns of the other gender, and places of one kind."""

DEPENDENT = {"his": ("her", "hers"), "her": ("his", "him")}
"""Pronoun -> (before a noun, by itself)."""
NO_NOUN = frozenset(
    "a an the my your his her its our their this these those some any and or but nor so if as at by for from in into "
    "of off on onto out over to under up with about after before during since than that when while who what which "
    "where why how is was are were be been has had have do does did will would can could should may might must not "
    "never again too also then there here because".split()
)
"""Words before which a pronoun stands by itself."""
