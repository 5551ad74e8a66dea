"""What the page of an audit shows, section by section."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from mechconn.connectivity import make_path_section, make_settled_section
from mechconn.mechanisms._audit_cards import make_path_anchor
from mechconn.mechanisms._audit_groups_page import list_group_sections
from mechconn.mechanisms._audit_sentences import THEORY_PAGE
from mechconn.mechanisms._relearned_page import list_relearning_sections
from mechconn.mechanisms._relearned_sentences import describe_protocol
from mechconn.plotting import Section, make_examples_section

if TYPE_CHECKING:
    from mechconn.mechanisms._audit import Audit

THEORY = (
    "Proved, for one hidden ReLU layer and minimisers that interpolate: dissimilar mechanisms of different complexity "
    "imply a barrier on the straight path under every permutation of units. A conjecture: minimisers that no straight "
    "path connects, up to the architecture's symmetries, are dissimilar. Dissimilar mechanisms of similar complexity "
    f"can be linearly connected. The assumptions stand in {THEORY_PAGE} in mechconn's files."
)


def make_audit_sections(audit: Audit) -> Iterator[Section]:
    """Effects, paths, alignment, blocks, layers, and what the theory says, of what was measured."""
    (a, b), connections = audit.names, audit.connections
    yield from make_examples_section(audit.examples)
    yield from audit.comparison.sections()
    yield from list_group_sections(audit.groups)
    said = " ".join(describe_protocol(audit.relearned))
    yield from (replace(section, text=said) for section in list_relearning_sections(audit.relearned))
    for name, found in audit.probes.items():
        yield from (replace(section, title=f"What the features of {name} hold") for section in found.sections())
    for which, path in audit.paths.items():
        title, symmetry = _describe_line(audit, which)
        section = make_path_section(path, title, connections[which], symmetry)
        yield replace(section, anchor=make_path_anchor(which))
    for which, path in audit.settled_paths.items():
        section = make_settled_section(path, *_describe_line(audit, which))
        yield replace(section, anchor=make_path_anchor(which))
    if audit.alignment is not None:
        yield from audit.alignment.sections()
    if audit.blocks is not None:
        (section,) = audit.blocks.sections()
        moved = f"{b}, aligned" if audit.alignment is not None else b
        unit = audit.comparison.a.loss_unit
        yield replace(section, note=f"Barriers in {unit} while one block goes from {a} to {moved}, the rest at {a}.")
    if audit.similarity is not None:
        yield from audit.similarity.sections()
    yield Section("The theory", text=THEORY, anchor="theory")


def _describe_line(audit: Audit, which: str) -> tuple[str, str]:
    """(the heading of a line's section, which symmetries were removed)."""
    (a, b), found = audit.names, audit.alignment
    title = f"The straight path, {'as it is' if which == 'before' else f'{b} aligned to {a}'}"
    if which == "before" or found is None:
        return title, "No symmetry was removed."
    removed = f"{found.removed[:1].upper()}{found.removed[1:]}"
    return title, f"{removed} of units were removed by {found.settings['method']}: {found.distances}."
